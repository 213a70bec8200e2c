// Starts a program in a console, waits until it says "serving", lets the console send what it sends, and says how the program ended.
//
// Usage: console RESULT (break | c | close) PROGRAM ARGUMENT..
// RESULT is the file for what there is to say, because a console is for people. The exit code is 0 if the program heard the signal, drained, and
// ended with 0.

#include <stdio.h>
#include <string.h>
#include <windows.h>

#define LIMIT_MS 60000

typedef HRESULT(WINAPI *create_console)(COORD, HANDLE, HANDLE, DWORD, void **);
typedef void(WINAPI *close_console)(void *);

static BOOL WINAPI ignore(DWORD event) {
    (void)event;
    return TRUE;
}

// What the program has printed so far.
static char text[1 << 20];
static DWORD len;
static FILE *result;

static int failed(const char *what) {
    fprintf(result, "%s: error %lu\n", what, GetLastError());
    return 1;
}

static int read_more(HANDLE output) {
    DWORD more = 0;
    if (len == sizeof(text) - 1 || !ReadFile(output, text + len, sizeof(text) - 1 - len, &more, NULL) || more == 0) {
        return 0;
    }
    len += more;
    text[len] = 0;
    return 1;
}

static DWORD WINAPI read_all(void *output) {
    while (read_more(output)) {
    }
    return 0;
}

// Reads what a console shows, so that it never waits for room.
static DWORD WINAPI forget(void *shown) {
    char screen[4096];
    DWORD more = 0;
    while (ReadFile(shown, screen, sizeof(screen), &more, NULL) && more > 0) {
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count < 4 || !(result = fopen(arguments[1], "wb"))) {
        return 1;
    }
    const char *mode = arguments[2];
    int is_close = !strcmp(mode, "close"), is_break = !strcmp(mode, "break");
    char line[4096] = "";
    for (int i = 3; i < count; i++) {
        snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s\"%s\"", i > 3 ? " " : "", arguments[i]);
    }
    SECURITY_ATTRIBUTES inherit = {sizeof(inherit), NULL, TRUE};
    HANDLE output, written;
    if (!CreatePipe(&output, &written, &inherit, 0)) {
        return failed("CreatePipe");
    }
    SetHandleInformation(output, HANDLE_FLAG_INHERIT, 0);
    STARTUPINFOEXA start = {0};
    start.StartupInfo.cb = sizeof(STARTUPINFOA);
    start.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
    start.StartupInfo.hStdOutput = written;
    start.StartupInfo.hStdError = written;
    DWORD flags = is_break ? CREATE_NEW_PROCESS_GROUP : 0;
    void *console = NULL;
    HMODULE kernel = GetModuleHandleA("kernel32.dll");
    create_console create = (create_console)(void *)GetProcAddress(kernel, "CreatePseudoConsole");
    close_console close = (close_console)(void *)GetProcAddress(kernel, "ClosePseudoConsole");
    HANDLE shown = NULL;
    if (is_close) {
        // The console of this process cannot be closed from here, so the program gets one of its own.
        HANDLE keys_read, keys, screen;
        COORD size = {80, 25};
        if (!create || !close || !CreatePipe(&keys_read, &keys, NULL, 0) || !CreatePipe(&shown, &screen, NULL, 0)) {
            return failed("CreatePipe");
        }
        if (FAILED(create(size, keys_read, screen, 0, &console))) {
            return failed("CreatePseudoConsole");
        }
        SIZE_T bytes = 0;
        InitializeProcThreadAttributeList(NULL, 1, 0, &bytes);
        start.lpAttributeList = HeapAlloc(GetProcessHeap(), 0, bytes);
        InitializeProcThreadAttributeList(start.lpAttributeList, 1, 0, &bytes);
        // PROC_THREAD_ATTRIBUTE_PSEUDOCONSOLE
        if (!UpdateProcThreadAttribute(start.lpAttributeList, 0, 0x00020016, console, sizeof(console), NULL, NULL)) {
            return failed("UpdateProcThreadAttribute");
        }
        start.StartupInfo.cb = sizeof(start);
        flags |= EXTENDED_STARTUPINFO_PRESENT;
        CreateThread(NULL, 0, forget, shown, 0, NULL);
    } else {
        SetConsoleCtrlHandler(ignore, TRUE);
    }
    PROCESS_INFORMATION program;
    if (!CreateProcessA(NULL, line, NULL, NULL, TRUE, flags, NULL, NULL, &start.StartupInfo, &program)) {
        return failed("CreateProcess");
    }
    CloseHandle(written);
    while (!strstr(text, "serving")) {
        if (!read_more(output)) {
            fprintf(result, "the program ended before it was ready: %s\n", text);
            return 1;
        }
    }
    HANDLE reader = CreateThread(NULL, 0, read_all, output, 0, NULL);
    const char *heard = is_close ? "CTRL_CLOSE" : is_break ? "CTRL_BREAK" : "CTRL_C";
    DWORD event = is_break ? CTRL_BREAK_EVENT : CTRL_C_EVENT;
    if (is_close) {
        close(console);
    } else if (!(is_break && GenerateConsoleCtrlEvent(event, program.dwProcessId)) && !GenerateConsoleCtrlEvent(event, 0)) {
        // Wine 8 knows no process groups. Then all programs of the console get the signal; this one ignores it.
        int code = failed("GenerateConsoleCtrlEvent");
        TerminateProcess(program.hProcess, 1);
        return code;
    }
    if (WaitForSingleObject(program.hProcess, LIMIT_MS)) {
        fprintf(result, "the program did not end within a minute of %s: %s\n", heard, text);
        TerminateProcess(program.hProcess, 1);
        return 1;
    }
    DWORD code = 0;
    GetExitCodeProcess(program.hProcess, &code);
    WaitForSingleObject(reader, LIMIT_MS);
    if (code || !strstr(text, heard) || !strstr(text, "terminated: drained")) {
        fprintf(result, "%s: the program ended with code 0x%lx: %s\n", heard, code, text);
        return 1;
    }
    fprintf(result, "%s: the server drained and ended with code 0\n", heard);
    return 0;
}
