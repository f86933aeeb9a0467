//! How many requests a sync of everything needs: pages, batches and the products that take one request for each
//! connection.

use crate::finch::endpoints::{ENDPOINTS, Operation};
use crate::types::Product;

/// Finch's page where nobody asks for another one, since July 2026 (Finch SDK changelog).
pub const PAGE_DEFAULT: u64 = 100;
/// The largest page of a directory.
const DIRECTORY_PAGE_MAX: u64 = 10_000;
/// The largest page of one payment's statements.
const STATEMENTS_PAGE_MAX: u64 = 5_000;

/// The products that a sync can be of: those whose size follows from customers, people and payments.
pub const PRODUCTS: [Product; 10] = [
    Product::Company,
    Product::Directory,
    Product::Individual,
    Product::Employment,
    Product::Payment,
    Product::PayStatement,
    Product::PayGroups,
    Product::PayStatementItem,
    Product::Documents,
    Product::Benefits,
];

/// What is synced, and how the app asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sync {
    /// Connections; as many as customers where each has one.
    pub connections: u64,
    /// Legal entities of each. A request is about one of them.
    pub entities: u64,
    /// People of each connection, over all its entities.
    pub employees: u64,
    /// Payments of each entity whose statements are read.
    pub payments: u64,
    /// The page the app asks for; Finch's largest where that is smaller.
    pub page: u64,
    /// Ids in one batch request; Finch's most where that is smaller.
    pub ids: u64,
}

impl Sync {
    /// The same, asked for as economically as Finch allows.
    pub const fn at_best(self) -> Self {
        Self { page: u64::MAX, ids: u64::MAX, ..self }
    }

    /// The same by an app that sends one id at a time and leaves pages as they are.
    pub const fn one_by_one(self) -> Self {
        Self { page: PAGE_DEFAULT, ids: 1, ..self }
    }

    /// How many requests of a product the whole sync needs.
    pub fn requests(&self, product: Product) -> u64 {
        let people = self.employees.div_ceil(self.entities.max(1));
        let pages = |most: u64| people.div_ceil(self.page.clamp(1, most)).max(1);
        let batches = |things: u64, operation| things.div_ceil(self.ids.clamp(1, ids_max(operation)));
        let each = match product {
            Product::Directory => pages(DIRECTORY_PAGE_MAX),
            Product::Individual => batches(people, Operation::ReadIndividuals),
            Product::Employment => batches(people, Operation::ReadEmployments),
            // Every payment of a request has pages of its own.
            Product::PayStatement => batches(self.payments, Operation::ReadPayStatements)
                .saturating_mul(pages(STATEMENTS_PAGE_MAX)),
            Product::Company
            | Product::Payment
            | Product::PayGroups
            | Product::PayStatementItem
            | Product::Documents
            | Product::Benefits => 1,
            Product::Connect
            | Product::Auth
            | Product::Providers
            | Product::Introspect
            | Product::Disconnect
            | Product::Forward
            | Product::Jobs
            | Product::Sandbox => 0,
        };
        each.saturating_mul(self.entities).saturating_mul(self.connections)
    }
}

/// The most ids that Finch takes in one request.
fn ids_max(operation: Operation) -> u64 {
    let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.operation == operation);
    let most = endpoint.and_then(|endpoint| endpoint.batch?.items_max);
    most.and_then(|most| u64::try_from(most).ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Sync =
        Sync { connections: 50, entities: 1, employees: 250, payments: 26, page: 10_000, ids: 10_000 };

    #[test]
    fn each_product_needs_what_its_pages_and_batches_make_of_it() {
        for (product, best, one_by_one) in [
            (Product::Company, 50, 50),
            (Product::Directory, 50, 150),
            (Product::Individual, 50, 12_500),
            (Product::Employment, 50, 12_500),
            (Product::Payment, 50, 50),
            (Product::PayStatement, 150, 3_900),
            (Product::Jobs, 0, 0),
        ] {
            assert_eq!(SYNC.at_best().requests(product), best, "{product}");
            assert_eq!(SYNC.one_by_one().requests(product), one_by_one, "{product}");
        }
        assert!(PRODUCTS.iter().all(|product| SYNC.requests(*product) > 0));
    }

    #[test]
    fn finchs_most_counts_where_more_is_asked_for() {
        let large = Sync { connections: 1, employees: 25_000, payments: 11, ..SYNC.at_best() };
        assert_eq!(large.requests(Product::Directory), 3);
        assert_eq!(large.requests(Product::Individual), 3);
        assert_eq!(
            large.requests(Product::PayStatement),
            2 * 5,
            "ten payments at a time, 5000 people a page"
        );
    }

    #[test]
    fn entities_share_the_people_and_are_asked_one_by_one() {
        let many = Sync { connections: 1, entities: 3, employees: 250, page: 100, ids: 50, ..SYNC };
        assert_eq!((many.requests(Product::Company), many.requests(Product::Directory)), (3, 3));
        assert_eq!(many.requests(Product::Individual), 6, "84 people in each");
        let nobody = Sync { employees: 0, ..many };
        assert_eq!((nobody.requests(Product::Directory), nobody.requests(Product::Individual)), (3, 0));
        let absurd = Sync { connections: u64::MAX, employees: u64::MAX, page: 0, ids: 0, ..many };
        assert_eq!(absurd.requests(Product::PayStatement), u64::MAX);
    }
}
