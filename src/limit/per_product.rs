//! One value for each product: an array that can only be asked by product.

use crate::types::Product;
use std::ops::{Index, IndexMut};

/// One `T` for each of Finch's products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PerProduct<T>([T; Product::ALL.len()]);

impl<T> PerProduct<T> {
    /// Fills every place.
    pub fn from_fn(value: impl FnMut(Product) -> T) -> Self {
        Self(Product::ALL.map(value))
    }
}

impl<T> Index<Product> for PerProduct<T> {
    type Output = T;
    fn index(&self, product: Product) -> &T {
        &self.0[product as usize]
    }
}

impl<T> IndexMut<Product> for PerProduct<T> {
    fn index_mut(&mut self, product: Product) -> &mut T {
        &mut self.0[product as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_finds_its_own_value() {
        let names = PerProduct::from_fn(Product::as_str);
        for product in Product::ALL {
            assert_eq!(names[product], product.as_str());
        }
    }
}
