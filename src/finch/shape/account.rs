//! The shapes of what hangs on a connection: documents, benefits and who is enrolled, introspection.

use super::pay::BENEFIT_TYPES;
use super::{Field, Kind, PAGING, Shape, TEXT, flag, list, number, object, some, text, word};

/// `GET /employer/documents`
pub(super) const DOCUMENTS: Shape = some(Kind::Object(&[
    object("paging", PAGING).always(),
    list(
        "documents",
        &some(Kind::Object(&[
            text("id").always(),
            text("individual_id"),
            word("type", &["w4_2020", "w4_2005"]).always(),
            text("url").always(),
            number("year").always(),
        ])),
    )
    .always(),
]));

/// `GET /employer/benefits`
pub(super) const BENEFITS: Shape = some(Kind::List(&BENEFIT));

/// `GET /employer/benefits/{benefit_id}`
pub(super) const BENEFIT: Shape = some(Kind::Object(&[
    text("benefit_id").always(),
    word("type", BENEFIT_TYPES),
    word("frequency", &["every_paycheck", "monthly", "one_time"]),
    text("description"),
    object("company_contribution", &[TIERS, word("type", &["match"]).always()]),
]));

const TIERS: Field =
    list("tiers", &some(Kind::Object(&[number("match").always(), number("threshold").always()])));

/// `GET /employer/benefits/{benefit_id}/enrolled`
pub(super) const ENROLLED: Shape =
    some(Kind::Object(&[text("benefit_id").always(), list("individual_ids", &TEXT).always()]));

/// `GET /employer/benefits/{benefit_id}/individuals`
pub(super) const ENROLLMENTS: Shape = some(Kind::List(&some(Kind::Item(&[
    text("individual_id").always(),
    number("code").always(),
    object(
        "body",
        &[
            number("annual_maximum"),
            flag("catch_up"),
            object(
                "company_contribution",
                &[number("amount"), TIERS, word("type", &["fixed", "percent", "tiered"]).always()],
            ),
            object("employee_deduction", &[number("amount"), word("type", &["fixed", "percent"]).always()]),
            word("hsa_contribution_limit", &["individual", "family"]),
        ],
    )
    .always(),
]))));

const STATES: &[&str] =
    &["pending", "processing", "connected", "error_no_account_setup", "error_permissions", "reauth"];

const CONNECTION_STATUS: &[Field] =
    &[word("status", STATES).always(), text("message"), text("last_successful_sync")];

/// `GET /introspect`
pub(super) const INTROSPECTION: Shape = some(Kind::Object(&[
    text("id").always(),
    text("client_id").always(),
    word("client_type", &["development", "production", "sandbox"]).always(),
    text("connection_id").always(),
    word("connection_type", &["finch", "provider"]).always(),
    object("connection_status", CONNECTION_STATUS).always(),
    list("products", &TEXT).always(),
    text("provider_id").always(),
    text("payroll_provider_id"),
    list(
        "authentication_methods",
        &some(Kind::Object(&[
            word("type", &["assisted", "credential", "api_token", "api_credential", "oauth"]).always(),
            object("connection_status", CONNECTION_STATUS),
            list("products", &TEXT),
        ])),
    ),
    list(
        "entities",
        &some(Kind::Object(&[
            text("id").always(),
            text("name"),
            text("source_id"),
            word(
                "status",
                &[
                    "pending",
                    "processing",
                    "connected",
                    "error_no_account_setup",
                    "error_permissions",
                    "reauth",
                    "disconnected",
                ],
            )
            .always(),
        ])),
    ),
    text("company_id"),
    text("account_id"),
    text("customer_id"),
    text("customer_name"),
    text("customer_email"),
    text("username"),
    flag("manual"),
]));
