//! The shapes of what people are paid: payments, pay statements, pay groups.

use super::{
    Field, Kind, PAGING, Shape, TEXT, anything, flag, list, number, object, perhaps, some, text, word,
};

const MONEY: &[Field] = &[number("amount"), text("currency").always()];

const FREQUENCY: Shape = some(Kind::Word(&[
    "annually",
    "bi_weekly",
    "daily",
    "monthly",
    "other",
    "quarterly",
    "semi_annually",
    "semi_monthly",
    "weekly",
]));

/// What a deduction or a contribution is for; also the type of a benefit.
pub(super) const BENEFIT_TYPES: &[&str] = &[
    "457",
    "401k",
    "401k_roth",
    "401k_loan",
    "403b",
    "403b_roth",
    "457_roth",
    "commuter",
    "custom_post_tax",
    "custom_pre_tax",
    "fsa_dependent_care",
    "fsa_medical",
    "hsa_post",
    "hsa_pre",
    "s125_dental",
    "s125_medical",
    "s125_vision",
    "simple",
    "simple_ira",
];

/// `GET /employer/payment`
pub(super) const PAYMENTS: Shape = some(Kind::List(&some(Kind::Object(&[
    text("id").always(),
    object("pay_period", &[text("start_date"), text("end_date")]),
    text("pay_date"),
    text("debit_date"),
    object("company_debit", MONEY),
    object("gross_pay", MONEY),
    object("net_pay", MONEY),
    object("employer_taxes", MONEY),
    object("employee_taxes", MONEY),
    list("individual_ids", &TEXT),
    list("pay_group_ids", &TEXT),
    list("pay_frequencies", &FREQUENCY),
]))));

/// `POST /employer/pay-statement`
pub(super) const PAY_STATEMENTS: Shape = some(Kind::Object(&[list("responses", &OF_PAYMENT).always()]));

const OF_PAYMENT: Shape = some(Kind::Item(&[
    text("payment_id").always(),
    number("code").always(),
    object(
        "body",
        &[object("paging", PAGING).always(), list("pay_statements", &some(Kind::Object(STATEMENT))).always()],
    )
    .always(),
]));

/// What an application's rules added.
const ATTRIBUTES: &[Field] = &[anything("metadata").always()];

const STATEMENT: &[Field] = &[
    text("individual_id").always(),
    word("type", &["off_cycle_payroll", "one_time_payment", "regular_payroll"]),
    word("payment_method", &["check", "direct_deposit", "other"]),
    number("total_hours"),
    object("gross_pay", MONEY),
    object("net_pay", MONEY),
    list(
        "earnings",
        &perhaps(Kind::Object(&[
            word(
                "type",
                &[
                    "salary",
                    "wage",
                    "reimbursement",
                    "overtime",
                    "severance",
                    "double_overtime",
                    "pto",
                    "sick",
                    "bonus",
                    "commission",
                    "tips",
                    "1099",
                    "other",
                ],
            ),
            text("name"),
            number("amount"),
            text("currency"),
            number("hours"),
            object("attributes", ATTRIBUTES),
        ])),
    ),
    list(
        "taxes",
        &some(Kind::Object(&[
            word("type", &["state", "federal", "local", "fica"]),
            text("name"),
            flag("employer"),
            number("amount"),
            text("currency"),
            object("attributes", ATTRIBUTES),
        ])),
    ),
    list(
        "employee_deductions",
        &some(Kind::Object(&[
            text("name"),
            word("type", BENEFIT_TYPES),
            number("amount"),
            text("currency"),
            flag("pre_tax"),
            object("attributes", ATTRIBUTES),
        ])),
    ),
    list(
        "employer_contributions",
        &some(Kind::Object(&[
            text("name"),
            word("type", BENEFIT_TYPES),
            number("amount"),
            text("currency"),
            object("attributes", ATTRIBUTES),
        ])),
    ),
];

/// `GET /employer/pay-groups`
pub(super) const PAY_GROUPS: Shape = some(Kind::List(&some(Kind::Object(&[
    text("id").always(),
    text("name").always(),
    list("pay_frequencies", &FREQUENCY).always(),
]))));

/// `GET /employer/pay-groups/{pay_group_id}`
pub(super) const PAY_GROUP: Shape = some(Kind::Object(&[
    text("id").always(),
    text("name").always(),
    list("pay_frequencies", &FREQUENCY).always(),
    list("individual_ids", &TEXT).always(),
]));
