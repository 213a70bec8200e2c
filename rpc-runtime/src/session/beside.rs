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
    values: Vec<(TypeId, Arc<dyn Any + Send + Sync>)>,
}

impl Beside {
    /// With metadata alone; none if there are no entries.
    #[inline]
    pub(super) fn of(metadata: Metadata) -> Option<Arc<Self>> {
        (!metadata.is_empty()).then(|| {
            Arc::new(Self {
                metadata,
                values: Vec::new(),
            })
        })
    }

    /// Keeps `value`, in place of an earlier one of its type.
    pub(super) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        let (id, value) = (TypeId::of::<T>(), Arc::new(value));
        match self.values.iter_mut().find(|(of, _)| *of == id) {
            Some((_, old)) => *old = value,
            None => self.values.push((id, value)),
        }
    }

    /// The value of type `T`.
    pub(super) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        let of_type = self.values.iter().find(|(of, _)| *of == TypeId::of::<T>());
        of_type.and_then(|(_, value)| value.downcast_ref())
    }
}
