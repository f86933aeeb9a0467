//! What Finch meters, and the groups of endpoints it does not.

use std::fmt;

macro_rules! products {
    ($($(#[$doc:meta])+ $name:ident = $label:literal, $documented:expr;)+) => {
        /// A group of endpoints that share one counter at Finch, or, where Finch documents none,
        /// one name in metrics. Closed, so it is safe as a metric label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Product { $($(#[$doc])+ $name),+ }

        impl Product {
            /// Every product, in the order of Finch's rate-limit guide, then the unmetered ones.
            pub const ALL: [Product; [$(Product::$name),+].len()] = [$(Product::$name),+];

            /// The name in configuration, headers, logs and metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Product::$name => $label),+ }
            }

            /// Whether Finch may count it per minute. An unmetered product has no counter of its
            /// own unless the operator gives it one; all of them count against the egress IP
            /// ("Finch rate-limit guide").
            pub const fn is_metered(self) -> bool {
                match self { $(Product::$name => $documented),+ }
            }
        }
    };
}

products! {
    /// `/employer/company`
    Company = "company", true;
    /// `/employer/directory`
    Directory = "directory", true;
    /// `/employer/individual`
    Individual = "individual", true;
    /// `/employer/employment`
    Employment = "employment", true;
    /// `/employer/payment`
    Payment = "payment", true;
    /// `/employer/pay-statement`
    PayStatement = "pay-statement", true;
    /// `/employer/pay-groups*`
    PayGroups = "pay-groups", true;
    /// `/employer/pay-statement-item*`
    PayStatementItem = "pay-statement-item", true;
    /// `/employer/documents*`
    Documents = "documents", true;
    /// `/employer/benefits*`: no number is documented, so the configured default holds.
    Benefits = "benefits", true;
    /// `/connect/sessions*`
    Connect = "connect", false;
    /// `/auth/token`
    Auth = "auth", false;
    /// `/providers`
    Providers = "providers", false;
    /// `/introspect`
    Introspect = "introspect", false;
    /// `/disconnect`, `/disconnect-entity`
    Disconnect = "disconnect", false;
    /// `/forward`
    Forward = "forward", false;
    /// `/jobs/*`
    Jobs = "jobs", false;
    /// `/sandbox/*`
    Sandbox = "sandbox", false;
}

impl Product {
    /// Finds a product by its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == name)
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
