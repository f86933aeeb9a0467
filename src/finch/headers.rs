//! Header names, as they stand on the wire in lower case.

/// Finch's id of a request, on every answer it gives.
pub const FINCH_REQUEST_ID: &str = "finch-request-id";
/// When the data was last pulled from the provider.
pub const FINCH_DATA_RETRIEVED: &str = "finch-data-retrieved";
/// When Finch last tried to pull it.
pub const FINCH_LAST_ATTEMPTED_UPDATE_DATE: &str = "finch-last-attempted-update-date";
/// How that try ended: `success`, `error`, `partial_error`.
pub const FINCH_LAST_ATTEMPTED_UPDATE_RESULT: &str = "finch-last-attempted-update-result";
/// The version header every call carries.
pub const FINCH_API_VERSION: &str = "finch-api-version";
/// The only version Finch has published.
pub const FINCH_API_VERSION_VALUE: &str = "2020-09-17";

/// Finch's name for an event, the same when it is sent again.
pub const FINCH_EVENT_ID: &str = "finch-event-id";
/// When an event was sent, in seconds since 1970.
pub const FINCH_TIMESTAMP: &str = "finch-timestamp";
/// Its signatures, with blanks between them.
pub const FINCH_SIGNATURE: &str = "finch-signature";

/// What an SDK counts its repetitions with; `0` at first.
pub const STAINLESS_RETRY_COUNT: &str = "x-stainless-retry-count";
/// How long the Python SDK waits for the next byte, in seconds.
pub const STAINLESS_READ_TIMEOUT: &str = "x-stainless-read-timeout";
/// How long the Node SDK waits for headers, in seconds; sent only when the call set it.
pub const STAINLESS_TIMEOUT: &str = "x-stainless-timeout";
/// Which SDK it is; every official one sends it.
pub const STAINLESS_LANG: &str = "x-stainless-lang";
/// The only header that stops every SDK from sending again.
pub const SHOULD_RETRY: &str = "x-should-retry";

/// Names the customer.
pub const PERCH_CUSTOMER: &str = "perch-customer";
/// Picks one of the customer's connections.
pub const PERCH_CONNECTION: &str = "perch-connection";
/// How long this call may wait for quota, in seconds.
pub const PERCH_MAX_WAIT: &str = "perch-max-wait";
/// `interactive` or `batch`.
pub const PERCH_PRIORITY: &str = "perch-priority";
/// The client's own name for what it intends: calls with the same one are one exchange.
pub const PERCH_IDEMPOTENCY_KEY: &str = "perch-idempotency-key";
/// The app's own key, when keys are on.
pub const PERCH_APP_KEY: &str = "perch-app-key";
/// perch's id of the call, on every answer.
pub const PERCH_REQUEST_ID: &str = "perch-request-id";
/// What became of the call, in one closed vocabulary.
pub const PERCH_CLASS: &str = "perch-class";
/// How often it was sent to Finch.
pub const PERCH_ATTEMPTS: &str = "perch-attempts";
/// How long it waited for quota, in milliseconds.
pub const PERCH_WAIT_MS: &str = "perch-wait-ms";
/// What became of the items of a batch.
pub const PERCH_BATCH: &str = "perch-batch";
/// How many items of a batch a second request made better.
pub const PERCH_REPAIRED: &str = "perch-repaired";
/// Whether failed items of a batch are asked for once more: `true`, `pending` or `false`.
pub const PERCH_REPAIR: &str = "perch-repair";
/// Where a kept answer came from, or why none was taken: `hit`, `shared`, `miss` or `bypass`.
pub const PERCH_CACHE: &str = "perch-cache";
/// IETF draft: what is left.
pub const RATE_LIMIT: &str = "ratelimit";
/// IETF draft: what is allowed.
pub const RATE_LIMIT_POLICY: &str = "ratelimit-policy";
