//! Beside: what a call has beside its message: metadata, and the values of middleware.

use std::{
    any::{Any, TypeId},
    sync::Arc,
};

use crate::Metadata;

/// What a call has beside its message: the caller's metadata, and the values that middleware has put there.
#[derive(Clone, Default)]
pub(super) struct Beside {
    pub(super) metadata: Metadata,
    values: Vec<BesideValue>,
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
    /// With the metadata of a call, and with the value that `find` finds by it; none if there are no entries.
    #[inline]
    pub(super) fn of(
        mut metadata: Metadata,
        find: impl FnOnce(&mut Metadata) -> Option<BesideValue>,
    ) -> Option<Arc<Self>> {
        (!metadata.is_empty()).then(|| {
            let value = find(&mut metadata);
            Arc::new(Self {
                metadata,
                values: value.into_iter().collect(),
            })
        })
    }

    /// Keeps `value`, in place of an earlier one of its type.
    pub(super) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        let value = BesideValue::of(Arc::new(value));
        match self.values.iter_mut().find(|old| old.of == value.of) {
            Some(old) => *old = value,
            None => self.values.push(value),
        }
    }

    /// The value of type `T`.
    pub(super) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.iter().find_map(BesideValue::get)
    }
}
