//! Security: who runs a process, what only our own user may use, and random bytes.

use std::{
    ffi::c_void,
    io, iter,
    os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle},
    ptr,
    sync::{Arc, OnceLock},
};

use windows_sys::{
    Win32::{
        Foundation::{HANDLE, LocalFree},
        Security::{
            Authorization::{
                ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW,
                GetNamedSecurityInfoW, SDDL_REVISION_1, SE_FILE_OBJECT,
            },
            Cryptography::{BCRYPT_USE_SYSTEM_PREFERRED_RNG, BCryptGenRandom},
            GetTokenInformation, OWNER_SECURITY_INFORMATION, PSID, SECURITY_ATTRIBUTES, TOKEN_QUERY,
            TOKEN_USER, TokenUser,
        },
        System::Threading::{
            GetCurrentProcess, OpenProcess, OpenProcessToken, PROCESS_QUERY_LIMITED_INFORMATION,
        },
    },
    core::PWSTR,
};

use super::super::User;

/// The user of this process.
pub(crate) fn own_user() -> Option<User> {
    static SID: OnceLock<Option<Arc<str>>> = OnceLock::new();
    let sid = SID.get_or_init(|| {
        // SAFETY: it has no arguments, and returns a constant that needs no closing.
        let process = unsafe { GetCurrentProcess() };
        sid_of_process(process).ok()
    });
    sid.clone().map(User::Sid)
}

/// The user of the process with the id `pid`, which must be there still.
///
/// # Errors
///
/// The OS's error, for example that this user may not look at it.
pub(super) fn user_of_process(pid: u32) -> io::Result<User> {
    // SAFETY: it takes no pointers. The handle that it returns is new, and ours to close.
    let process = unsafe {
        let process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid);
        if process.is_null() {
            return Err(io::Error::last_os_error());
        }
        OwnedHandle::from_raw_handle(process)
    };
    sid_of_process(process.as_raw_handle()).map(User::Sid)
}

/// The SID of the user of an open process, as text.
fn sid_of_process(process: HANDLE) -> io::Result<Arc<str>> {
    let mut token = ptr::null_mut();
    // SAFETY: `process` is open, and `token` has room for the handle, which is new and ours to close.
    let token = unsafe {
        ok(OpenProcessToken(process, TOKEN_QUERY, &raw mut token))?;
        OwnedHandle::from_raw_handle(token)
    };
    // Whole words, because a TOKEN_USER begins with a pointer. Behind it lies the SID, of 68 bytes at most: "SID", SECURITY_MAX_SID_SIZE.
    let mut found = [0_u64; 16];
    let mut len = 0;
    // SAFETY: the token is open. The OS writes no more than the given length of `found`, which is aligned for a TOKEN_USER. It begins with
    // one after success, and its SID lies in `found`, which lives until the text is made.
    unsafe {
        ok(GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            found.as_mut_ptr().cast(),
            size_of_val(&found) as u32,
            &raw mut len,
        ))?;
        text_of_sid((*found.as_ptr().cast::<TOKEN_USER>()).User.Sid)
    }
}

/// The owner of a file or a folder.
///
/// # Errors
///
/// The OS's error, for example that there is none.
pub(super) fn owner(path: &[u16]) -> io::Result<User> {
    assert_eq!(path.last(), Some(&0), "a string of C ends with a zero");
    let mut sid = ptr::null_mut();
    let mut descriptor = ptr::null_mut();
    // SAFETY: the path ends with a zero, as was just checked. The places have room for the two pointers, and null is allowed for the
    // others. `sid` points into `descriptor`, which lives until the text is made, and is freed by its own drop.
    unsafe {
        let error = GetNamedSecurityInfoW(
            path.as_ptr(),
            SE_FILE_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut sid,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut descriptor,
        );
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error as i32));
        }
        let _descriptor = Local(descriptor);
        text_of_sid(sid).map(User::Sid)
    }
}

/// # Safety
///
/// `sid` must be valid.
unsafe fn text_of_sid(sid: PSID) -> io::Result<Arc<str>> {
    let mut text: PWSTR = ptr::null_mut();
    // SAFETY: the caller has a valid SID. After success `text` is a new string that ends with a zero; it is freed by its drop.
    unsafe {
        ok(ConvertSidToStringSidW(sid, &raw mut text))?;
        let _owned = Local(text.cast());
        let len = (0..).take_while(|&at| *text.add(at) != 0).count();
        let text = std::slice::from_raw_parts(text, len);
        Ok(String::from_utf16_lossy(text).into())
    }
}

/// Who may use something that is made: our own user, and nobody else.
#[derive(Debug)]
pub(super) struct OwnUserOnly(Local);

// SAFETY: the memory is only read after it was made, and belongs to no thread.
unsafe impl Send for OwnUserOnly {}
// SAFETY: as above.
unsafe impl Sync for OwnUserOnly {}

impl OwnUserOnly {
    /// Makes the description. What is inside of a folder inherits it.
    ///
    /// # Errors
    ///
    /// The OS does not tell the user of this process.
    pub(super) fn new() -> io::Result<Self> {
        let Some(User::Sid(sid)) = own_user() else {
            return Err(io::Error::other("the OS does not tell the user of this process"));
        };
        // Owner: the user, also where it would be all administrators. Rights: nobody's are inherited, and the user has all.
        // learn.microsoft.com, "Security Descriptor String Format".
        let text = wide(&format!("O:{sid}D:P(A;OICI;GA;;;{sid})"));
        let mut descriptor = ptr::null_mut();
        // SAFETY: the text ends with a zero. After success the descriptor is new memory, freed by its drop. Null: its length is not wanted.
        unsafe {
            ok(ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                ptr::null_mut(),
            ))?;
        }
        Ok(Self(Local(descriptor)))
    }

    /// The attributes for a call that makes something. Their pointer is good as long as `self` is.
    pub(super) fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0.0,
            bInheritHandle: 0,
        }
    }
}

/// Memory that the OS has allocated by LocalAlloc.
#[derive(Debug)]
struct Local(*mut c_void);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: it comes from a call that says that LocalFree frees it, and nothing else does.
        unsafe {
            LocalFree(self.0);
        }
    }
}

/// Fills `bytes` with random bytes that nobody can guess.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    // SAFETY: the OS writes `len` bytes, which `bytes` has. Null is the generator of the system: BCRYPT_USE_SYSTEM_PREFERRED_RNG.
    let status = unsafe {
        BCryptGenRandom(
            ptr::null_mut(),
            bytes.as_mut_ptr(),
            len,
            BCRYPT_USE_SYSTEM_PREFERRED_RNG,
        )
    };
    match status {
        0 => Ok(()),
        status => Err(io::Error::other(format!("no random bytes: status {status:#x}"))),
    }
}

/// A text as Windows takes it, with a zero at its end.
pub(super) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain(iter::once(0)).collect()
}

/// Makes a result of what a function of Windows returns.
pub(super) fn ok(is_done: i32) -> io::Result<()> {
    match is_done {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_the_same_user_by_its_id() {
        let own = own_user().unwrap();
        assert!(own.to_string().starts_with("SID S-1-5-"), "{own}");
        assert_eq!(user_of_process(std::process::id()).unwrap(), own);
        user_of_process(0).unwrap_err();
    }

    #[test]
    fn random_bytes_differ() {
        let [mut one, mut other] = [[0; 32]; 2];
        random(&mut one).unwrap();
        random(&mut other).unwrap();
        assert_ne!(one, other);
    }
}
