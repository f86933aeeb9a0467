//! The shapes of who works where: company, directory, individual, employment.

use super::{Field, Kind, PAGING, Shape, anything, flag, list, number, object, perhaps, some, text, word};

const LOCATION: &[Field] = &[
    text("line1"),
    text("line2"),
    text("city"),
    text("state"),
    text("postal_code"),
    text("country"),
    text("name"),
    text("source_id"),
];
const NAMED: &[Field] = &[text("name")];
const MANAGER: &[Field] = &[text("id").always()];

/// `GET /employer/company`
pub(super) const COMPANY: Shape = some(Kind::Object(&[
    text("id").always(),
    text("legal_name"),
    text("ein"),
    object(
        "entity",
        &[
            word(
                "type",
                &["llc", "lp", "corporation", "sole_proprietor", "non_profit", "partnership", "cooperative"],
            ),
            word("subtype", &["s_corporation", "c_corporation", "b_corporation"]),
        ],
    ),
    text("primary_email"),
    text("primary_phone_number"),
    list("departments", &perhaps(Kind::Object(&[text("name"), object("parent", NAMED)]))),
    list("locations", &perhaps(Kind::Object(LOCATION))),
    list(
        "accounts",
        &some(Kind::Object(&[
            text("account_name"),
            text("account_number"),
            word("account_type", &["checking", "savings"]),
            text("institution_name"),
            text("routing_number"),
        ])),
    ),
]));

/// `GET /employer/directory`
pub(super) const DIRECTORY: Shape = some(Kind::Object(&[
    object("paging", PAGING).always(),
    list(
        "individuals",
        &some(Kind::Object(&[
            text("id").always(),
            text("first_name"),
            text("middle_name"),
            text("last_name"),
            object("department", NAMED),
            object("manager", MANAGER),
            flag("is_active"),
        ])),
    )
    .always(),
]));

/// `POST /employer/individual`
pub(super) const INDIVIDUALS: Shape = some(Kind::Object(&[list("responses", &INDIVIDUAL).always()]));

const INDIVIDUAL: Shape = some(Kind::Item(&[
    text("individual_id").always(),
    number("code").always(),
    object(
        "body",
        &[
            text("id").always(),
            text("first_name"),
            text("middle_name"),
            text("last_name"),
            text("preferred_name"),
            list("emails", &some(Kind::Object(&[text("data").always(), word("type", USE)]))),
            list("phone_numbers", &perhaps(Kind::Object(&[text("data"), word("type", USE)]))),
            word("gender", &["female", "male", "other", "decline_to_specify"]),
            word(
                "ethnicity",
                &[
                    "asian",
                    "white",
                    "black_or_african_american",
                    "native_hawaiian_or_pacific_islander",
                    "american_indian_or_alaska_native",
                    "hispanic_or_latino",
                    "two_or_more_races",
                    "decline_to_specify",
                ],
            ),
            word(
                "marital_status",
                &["single", "married", "divorced", "widowed", "domestic_partner", "unknown"],
            ),
            text("dob"),
            object("residence", LOCATION),
            text("ssn"),
            text("encrypted_ssn"),
        ],
    )
    .always(),
]));

const USE: &[&str] = &["work", "personal"];

/// `POST /employer/employment`
pub(super) const EMPLOYMENTS: Shape = some(Kind::Object(&[list("responses", &EMPLOYMENT).always()]));

const INCOME: &[Field] = &[
    number("amount"),
    text("currency"),
    text("effective_date"),
    word(
        "unit",
        &[
            "yearly",
            "quarterly",
            "monthly",
            "semi_monthly",
            "bi_weekly",
            "weekly",
            "daily",
            "hourly",
            "fixed",
        ],
    ),
];

const EMPLOYMENT: Shape = some(Kind::Item(&[
    text("individual_id").always(),
    number("code").always(),
    object(
        "body",
        &[
            text("id").always(),
            text("first_name"),
            text("middle_name"),
            text("last_name"),
            text("title"),
            object("manager", MANAGER),
            object("department", NAMED),
            object(
                "employment",
                &[
                    word("type", &["employee", "contractor"]),
                    word(
                        "subtype",
                        &["full_time", "intern", "part_time", "temp", "seasonal", "individual_contractor"],
                    ),
                ],
            ),
            word(
                "employment_status",
                &["active", "deceased", "leave", "onboarding", "prehire", "retired", "terminated"],
            ),
            text("start_date"),
            text("latest_rehire_date"),
            text("end_date"),
            flag("is_active"),
            text("class_code"),
            text("benefit_eligibility_class"),
            flag("highly_compensated_employee"),
            flag("key_employee"),
            text("union_code"),
            text("union_local"),
            word("flsa_status", &["exempt", "non_exempt", "unknown"]),
            object("location", LOCATION),
            object("income", INCOME),
            list("income_history", &perhaps(Kind::Object(INCOME))),
            // The employer's own names and values.
            anything("custom_fields"),
            text("source_id"),
            text("work_id"),
        ],
    )
    .always(),
]));
