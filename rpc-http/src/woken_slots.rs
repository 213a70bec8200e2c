//! WokenSlots: which answers of a connection were woken.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, PoisonError},
    task::{Wake, Waker},
};

use crate::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering::SeqCst},
};

/// The number of a slot, as a waker.
pub(crate) struct SlotNumber {
    index: usize,
    /// True if it is among the woken ones.
    is_listed: AtomicBool,
    woken: Arc<WokenSlots>,
}

impl SlotNumber {
    pub(crate) fn new(index: usize, woken: &Arc<WokenSlots>) -> Self {
        Self {
            index,
            is_listed: AtomicBool::new(false),
            woken: Arc::clone(woken),
        }
    }

    /// Notes that the slot is polled next: a wake from now on lists it again.
    pub(crate) fn has_its_turn(&self) {
        // A wake that found it listed has to be seen by the poll, so a store is not enough.
        self.is_listed.swap(false, SeqCst);
    }
}

impl Wake for SlotNumber {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_listed.swap(true, SeqCst) {
            return;
        }
        let task = {
            let mut woken = self.woken.lock();
            woken.slots.push_back(self.index);
            woken.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// The slots that were woken.
#[derive(Default)]
pub(crate) struct WokenSlots(Mutex<Woken>);

#[derive(Default)]
struct Woken {
    slots: VecDeque<usize>,
    /// The task of the connection, while it sleeps.
    task: Option<Waker>,
}

impl WokenSlots {
    /// Moves them to `turns`, which is empty.
    pub(crate) fn take(&self, turns: &mut VecDeque<usize>) {
        mem::swap(&mut self.lock().slots, turns);
    }

    /// Notes that the task with this waker sleeps. False if some were woken: then it must not.
    pub(crate) fn sleep(&self, task: &Waker) -> bool {
        let mut woken = self.lock();
        if !woken.slots.is_empty() {
            return false;
        }
        match &mut woken.task {
            Some(old) => old.clone_from(task),
            none => *none = Some(task.clone()),
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Woken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
