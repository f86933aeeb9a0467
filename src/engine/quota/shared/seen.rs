//! What the store said last, for metrics and headers, which ask nobody.

use crate::limit::{PerProduct, Scope, Standing};
use crate::store::redis::codec::Standings;
use crate::types::{Moment, Product};
use std::time::Duration;

/// What the store said last of how the limits stand.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) products: PerProduct<Option<(Standing, Moment)>>,
    pub(super) ip: Option<(Standing, Moment)>,
    pub(super) is_ip_open: bool,
    pub(super) holds: Vec<(Scope, Moment)>,
}

impl Seen {
    pub(super) fn nothing() -> Self {
        Self { products: PerProduct::from_fn(|_| None), ip: None, is_ip_open: true, holds: Vec::new() }
    }

    pub(super) fn note(&mut self, product: Product, standing: Option<Standing>, now: Moment) {
        if let Some(standing) = standing {
            self.products[product] = Some((standing, now));
        }
    }

    pub(super) fn renew(&mut self, standings: &Standings, now: Moment) {
        self.products = PerProduct::from_fn(|product| standings.products[product].map(|s| (s, now)));
        self.ip = Some((standings.ip, now));
        // One that was told to the store a moment ago may not be known there yet.
        self.holds.retain(|(_, until)| *until > now);
        for &(scope, span) in &standings.holds {
            self.holds.retain(|(other, until)| *other != scope || *until > now + span);
            self.holds.push((scope, now + span));
        }
    }
}

/// A standing as it is some time later, as far as that can be known.
pub(super) fn later(standing: Standing, passed: Duration) -> Standing {
    Standing { next_free_in: standing.next_free_in.saturating_sub(passed), ..standing }
}
