//! LaterRoutes: the routes of a bridge, each made when its procedure is called for the first time.

use std::{
    array,
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::Route;
use crate::{Service, client::known_procedures::KnownProcedures, session::ProtocolConnection};

/// The routes of a bridge, each made when its procedure is called for the first time: a client may learn procedures after it has connected.
pub(crate) struct LaterRoutes {
    procedures: Arc<KnownProcedures>,
    /// Runs the calls of all procedures.
    service: Arc<dyn Service>,
    /// What carries them.
    connection: Arc<dyn ProtocolConnection>,
    /// The index of each route that was made.
    by_id: Mutex<HashMap<u64, usize>>,
    first: Block,
}

/// Some routes, which never move.
struct Block {
    routes: [OnceLock<Route>; BLOCK],
    next: OnceLock<Box<Self>>,
}

impl LaterRoutes {
    /// Makes those of a bridge whose `service` hands calls on to `connection`.
    pub(crate) fn new(
        procedures: Arc<KnownProcedures>,
        service: Arc<dyn Service>,
        connection: Arc<dyn ProtocolConnection>,
    ) -> Self {
        Self {
            procedures,
            service,
            connection,
            by_id: Mutex::default(),
            first: Block::default(),
        }
    }

    /// Returns the index of the route of procedure `id`; none if the client does not know it.
    pub(crate) fn find(&self, id: u64) -> Option<usize> {
        let mut by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = by_id.get(&id) {
            return Some(*index);
        }
        let procedure = self.procedures.find(id)?;
        let index = by_id.len();
        let block = self.first.at(index);
        let route = Route::relay(Arc::clone(&self.service), procedure);
        // It is empty, since only this function fills it, under the lock.
        let _ = block.routes[index % BLOCK].set(route);
        by_id.insert(id, index);
        Some(index)
    }

    /// The connection that carries the calls.
    pub(crate) fn connection(&self) -> &Arc<dyn ProtocolConnection> {
        &self.connection
    }

    /// Returns the route at an index that [`LaterRoutes::find`] returned.
    pub(crate) fn get(&self, index: usize) -> Option<&Route> {
        self.first.at(index).routes[index % BLOCK].get()
    }
}

impl Block {
    /// The block that has the route `index`, counted from this one on.
    fn at(&self, index: usize) -> &Self {
        let mut block = self;
        for _ in 0..index / BLOCK {
            block = block.next.get_or_init(Box::default);
        }
        block
    }
}

impl Default for Block {
    fn default() -> Self {
        Self {
            routes: array::from_fn(|_| OnceLock::new()),
            next: OnceLock::new(),
        }
    }
}

/// How many routes lie together. Most clients know fewer procedures.
const BLOCK: usize = 16;
