//! Targets that came lately, compiled: most messages go to one of a few.

use std::collections::HashMap;
use std::sync::Arc;

use crate::encoding::Value;
use crate::singyeong::query::{InvalidQuery, Query};

/// So many are kept. Full, all are thrown away: the few that come all the time are there again at once.
const KEPT: usize = 256;
/// Longer ones are compiled each time: they are most likely made for one message.
const LONGEST: usize = 4 << 10;

/// The cache.
#[derive(Debug)]
pub(super) struct Targets {
    most_depth: usize,
    compiled: HashMap<Box<[u8]>, Arc<Query>>,
}

impl Targets {
    pub(super) fn new(most_depth: usize) -> Self {
        Self { most_depth, compiled: HashMap::new() }
    }

    /// The query of a target that is not kept.
    pub(super) fn query_once(&self, target: &Value) -> Result<Arc<Query>, InvalidQuery> {
        Query::compile(target, self.most_depth).map(Arc::new)
    }

    /// The query of a target whose JSON text is `text`; `value` reads that if it has to be.
    pub(super) fn query<E: From<InvalidQuery>>(
        &mut self,
        text: &[u8],
        value: impl FnOnce() -> Result<Value, E>,
    ) -> Result<Arc<Query>, E> {
        if let Some(query) = self.compiled.get(text) {
            return Ok(query.clone());
        }
        let query = Arc::new(Query::compile(&value()?, self.most_depth)?);
        if text.len() <= LONGEST {
            if self.compiled.len() >= KEPT {
                self.compiled.clear();
            }
            self.compiled.insert(text.into(), query.clone());
        }
        Ok(query)
    }
}
