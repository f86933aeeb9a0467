//! Arithmetic on a number per pool.

use super::beat::Pools;
use super::{PerProduct, Scope};

impl Pools {
    /// Fills every pool.
    pub(super) fn from_fn(mut number: impl FnMut(Scope) -> u32) -> Self {
        Self {
            products: PerProduct::from_fn(|product| number(Scope::Product(product))),
            ip: number(Scope::EgressIp),
        }
    }

    /// The number of one pool.
    pub(super) fn of(&self, scope: Scope) -> u32 {
        match scope {
            Scope::Product(product) => self.products[product],
            Scope::EgressIp => self.ip,
        }
    }

    /// That of the egress IP alone.
    pub(super) fn of_ip(&self) -> Self {
        Self { ip: self.ip, ..Self::none() }
    }

    /// Both together.
    pub(super) fn plus(&self, other: &Self) -> Self {
        Self::from_fn(|scope| self.of(scope).saturating_add(other.of(scope)))
    }

    /// What the other leaves of this.
    pub(super) fn minus(&self, other: &Self) -> Self {
        Self::from_fn(|scope| self.of(scope).saturating_sub(other.of(scope)))
    }

    /// The larger number of each pool.
    pub(super) fn or_more(&self, other: &Self) -> Self {
        Self::from_fn(|scope| self.of(scope).max(other.of(scope)))
    }

    /// The smaller number of each pool.
    pub(super) fn or_less(&self, other: &Self) -> Self {
        Self::from_fn(|scope| self.of(scope).min(other.of(scope)))
    }
}
