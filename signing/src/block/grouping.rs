//! The order of the code column, in which the columns that say something about a code are written.

use std::collections::HashMap;

use super::Column;
use crate::bundle::{ColumnInfo, ColumnKind};

/// The largest dictionary that is indexed directly while rows are grouped: 4 MiB of counters.
const DENSE_MAX: usize = 1 << 20;

/// The column that others are written in the order of: the first code column, if every row has a code.
pub(super) fn grouping_column(schema: &[ColumnInfo], columns: &[Column]) -> Option<usize> {
    let first = schema.iter().position(|info| info.kind == ColumnKind::Code)?;
    columns[first].missing.is_none().then_some(first)
}

pub(super) fn follows_code(kind: &ColumnKind) -> bool {
    matches!(kind, ColumnKind::Number { .. } | ColumnKind::Code | ColumnKind::Category { .. })
}

/// Row numbers in the order of a code column, and where each code's rows end.
pub(super) struct Grouping {
    pub(super) order: Vec<u32>,
    pub(super) ends: Vec<u32>,
}

impl Grouping {
    /// A stable counting sort; distinct codes in ascending order are the groups.
    pub(super) fn by(codes: &[u32]) -> Self {
        let mut distinct: Vec<u32> = codes.to_vec();
        distinct.sort_unstable();
        let mut ends = Vec::new();
        let mut starts: Vec<(u32, u32)> = Vec::new();
        for (position, code) in (0_u32..).zip(&distinct) {
            if starts.last().is_none_or(|(last, _)| last != code) {
                if position > 0 {
                    ends.push(position);
                }
                starts.push((*code, position));
            }
        }
        if !codes.is_empty() {
            ends.push(distinct.len() as u32);
        }
        // A bundle's dictionary is dense, so positions are looked up directly; a hostile block may name any position, and
        // must not make us allocate for it.
        let top = distinct.last().map_or(0, |&code| code as usize + 1);
        let mut order = vec![0; codes.len()];
        if top <= DENSE_MAX {
            let mut next = vec![0_u32; top];
            starts.iter().for_each(|(code, start)| next[*code as usize] = *start);
            for (row, code) in (0_u32..).zip(codes) {
                order[advance(&mut next[*code as usize])] = row;
            }
        } else {
            let mut next: HashMap<u32, u32> = starts.into_iter().collect();
            for (row, code) in (0_u32..).zip(codes) {
                order[advance(next.entry(*code).or_default())] = row;
            }
        }
        Self { order, ends }
    }
}

fn advance(next: &mut u32) -> usize {
    *next += 1;
    *next as usize - 1
}
