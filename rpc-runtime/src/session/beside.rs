//! Beside: what a call has beside its message: metadata, its trace, and the values of middleware.

use std::{
    any::{Any, TypeId},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Metadata, api::trace_context::TraceContext};

/// What a call has beside its message: the caller's metadata, its trace, and the values that middleware has put there.
#[derive(Clone, Default)]
pub(super) struct Beside {
    pub(super) metadata: Metadata,
    /// The trace that the handler goes on with.
    pub(super) trace: Option<TraceContext>,
    values: Vec<BesideValue>,
    /// Where values are noted, too, that middleware within puts there; none if nobody asks.
    heard: Option<Heard>,
}

/// The values that middleware has put beside a call, for middleware around it.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<BesideValue>>>);

impl Heard {
    /// The last value of type `T`.
    pub(crate) fn get<T: Any + Clone>(&self) -> Option<T> {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.iter().rev().find_map(BesideValue::get).cloned()
    }
}

/// A value beside a call, and its type.
#[derive(Clone)]
pub(super) struct BesideValue {
    of: TypeId,
    value: Arc<dyn Any + Send + Sync>,
}

impl BesideValue {
    pub(super) fn of<T: Any + Send + Sync>(value: Arc<T>) -> Self {
        Self {
            of: TypeId::of::<T>(),
            value,
        }
    }

    /// The value, if it is a `T`.
    pub(super) fn get<T: Any>(&self) -> Option<&T> {
        (self.of == TypeId::of::<T>()).then(|| self.value.downcast_ref())?
    }
}

impl Beside {
    /// With the metadata and the trace of a call, and with the value that `find` finds by the metadata; none if there is nothing.
    #[inline]
    pub(super) fn of(
        mut metadata: Metadata,
        trace: Option<TraceContext>,
        find: impl FnOnce(&mut Metadata) -> Option<BesideValue>,
    ) -> Option<Arc<Self>> {
        (!metadata.is_empty() || trace.is_some()).then(|| {
            let value = find(&mut metadata);
            Arc::new(Self {
                metadata,
                trace,
                values: value.into_iter().collect(),
                heard: None,
            })
        })
    }

    /// Keeps `value`, in place of an earlier one of its type.
    pub(super) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        let value = BesideValue::of(Arc::new(value));
        if let Some(Heard(heard)) = &self.heard {
            heard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(value.clone());
        }
        match self.values.iter_mut().find(|old| old.of == value.of) {
            Some(old) => *old = value,
            None => self.values.push(value),
        }
    }

    /// Notes the values that are put there from now on. Those who asked before hear them, too.
    pub(super) fn listen(&mut self) -> Heard {
        self.heard.get_or_insert_default().clone()
    }

    /// The value of type `T`.
    pub(super) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.iter().find_map(BesideValue::get)
    }
}
