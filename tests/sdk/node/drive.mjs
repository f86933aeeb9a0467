// Drives Finch's official Node SDK, unchanged and with its default settings, through one plan.
//
//     FINCH_BASE_URL=http://127.0.0.1:4600 node tests/sdk/node/drive.mjs [PLAN.json]
//
// The plan and the report are described in tests/sdk/README.md; drive.py does the same with the Python SDK.
// Whatever may differ between two runs that mean the same stands under a member named `volatile`.

import { createHash, createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The SDK is installed outside the sources, by scripts/sdks.sh.
const installed = new URL("../../../.cache/sdk/node/", import.meta.url);
const { Finch, APIError } = createRequire(installed)("@tryfinch/finch-api");
const { version } = JSON.parse(readFileSync(new URL("node_modules/@tryfinch/finch-api/package.json", installed), "utf8"));

const PAYMENTS_MAX = 10; // Finch takes no more payments in one pay-statement request

const steps = [];
const tokens = [];

const plan = {
  client_id: "unused",
  client_secret: "unused",
  products: ["company", "directory", "individual", "employment", "payment", "pay_statement", "benefits"],
  page_size: 2,
  start_date: "2000-01-01",
  end_date: "2099-12-31",
  unknown_id: "00000000-0000-4000-8000-00000000dead",
  ...JSON.parse(readFileSync(process.argv[2] ?? 0, "utf8")),
};

/** A client as an app makes one; the base URL comes from FINCH_BASE_URL. */
function client(accessToken) {
  if (accessToken !== undefined && !tokens.includes(accessToken)) tokens.push(accessToken);
  return new Finch({ accessToken, clientID: plan.client_id, clientSecret: plan.client_secret });
}

/** What the headers tell: that a request id came, and (volatile) which. */
function seen(headers, volatile) {
  const names = ["finch-request-id", "perch-request-id", "perch-class", "perch-batch"];
  return {
    has_request_id: Boolean(headers.get("finch-request-id")),
    volatile: { ...Object.fromEntries(names.map((name) => [name, headers.get(name)])), ...volatile },
  };
}

/** Makes one call of the SDK and notes what an app would see of it. */
async function step(customer, name, call, read) {
  const step = { customer, step: name };
  steps.push(step);
  try {
    const { data, response } = await call().withResponse();
    const [found, volatile] = await read(data);
    Object.assign(step, { outcome: "ok", status: response.status, ...seen(response.headers, volatile), ...found });
    return data;
  } catch (error) {
    // Without a status there was no answer, and nothing to compare.
    if (!(error instanceof APIError) || error.status === undefined) throw error;
    const body = error.error ?? {};
    const told = Object.fromEntries(["code", "name", "finch_code", "message"].map((key) => [key, body[key] ?? null]));
    Object.assign(step, {
      outcome: "error",
      status: error.status,
      class: error.constructor.name,
      body: told,
      ...seen(error.headers, { perch: body.perch ?? null }),
    });
    return undefined;
  }
}

/** The same value with its members in one order, and without what only the SDK's own objects carry. */
function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

/** One short text for all the data, the same when the data is. */
function digest(values) {
  return createHash("sha256").update(JSON.stringify(sorted(values))).digest("hex").slice(0, 16);
}

function rows(values, ids, more = {}) {
  return [{ rows: ids.length, ids, digest: digest(values), ...more }, {}];
}

/** Follows the pages to the end, as the SDK does it by itself. */
async function readDirectory(page) {
  const people = [];
  let pages = 0;
  for await (const each of page.iterPages()) {
    pages += 1;
    people.push(...each.individuals);
  }
  return rows(people, people.map((person) => person.id), { pages });
}

function readBatch(key) {
  return (page) => {
    const items = page.getPaginatedItems();
    const told = items.map((i) => ({ id: i[key], code: i.code, finch_code: i.body?.finch_code ?? null }));
    told.sort((a, b) => (a.id < b.id ? -1 : 1));
    return rows(items, told.map((item) => item.id), { items: told });
  };
}

/** The employer opens the link in a browser; the simulator answers with the code. */
async function logIn(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`the login at ${url} answered ${answer.status}`);
  return (await answer.json()).code;
}

/** Session, login, code for token: what an app does when a customer connects. Returns the token. */
async function exchange(customer, openSession) {
  const session = await step(customer, "session", openSession, (s) => [
    { has_url: Boolean(s.connect_url) },
    { session_id: s.session_id, connect_url: s.connect_url },
  ]);
  if (session === undefined) return undefined;
  const code = await logIn(session.connect_url);
  const answer = await step(customer, "exchange", () => client().accessTokens.create({ code }), (t) => [
    {
      customer_id: t.customer_id,
      connection_id: t.connection_id,
      provider_id: t.provider_id,
      products: [...t.products].sort(),
      entities: t.entity_ids.length,
    },
    { access_token: t.access_token },
  ]);
  if (answer !== undefined) tokens.push(answer.access_token);
  return answer?.access_token;
}

function connect(customer) {
  const integration = customer.provider === undefined ? {} : { integration: { provider: customer.provider } };
  return exchange(customer.id, () =>
    client().connect.sessions.new({
      customer_id: customer.id,
      customer_name: customer.name ?? customer.id,
      products: plan.products,
      ...integration,
    }),
  );
}

function readCompany(finch, customer, name) {
  return step(customer, name, () => finch.hris.company.retrieve(), (c) => rows([c], [c.id]));
}

function readIntrospection(found) {
  const told = {
    client_id: found.client_id,
    connection_id: found.connection_id,
    customer_id: found.customer_id,
    provider_id: found.provider_id,
    products: [...found.products].sort(),
    connection_status: found.connection_status.status,
  };
  return [told, { id: found.id }];
}

/** Everything a nightly job reads, then what can go wrong with it. */
async function sync(customer, token) {
  const finch = client(token);
  const { hris } = finch;
  const individuals = readBatch("individual_id");

  await readCompany(finch, customer, "company");
  await step(customer, "introspect", () => finch.account.introspect(), readIntrospection);
  await step(customer, "directory", () => hris.directory.list({ limit: plan.page_size }), readDirectory);
  const people = (steps.at(-1).ids ?? []).map((individual_id) => ({ individual_id }));
  if (people.length > 0) {
    await step(customer, "individual", () => hris.individuals.retrieveMany({ requests: people }), individuals);
    await step(customer, "employment", () => hris.employments.retrieveMany({ requests: people }), individuals);
  }

  const payments = await step(
    customer,
    "payment",
    () => hris.payments.list({ start_date: plan.start_date, end_date: plan.end_date }),
    (page) => rows(page.getPaginatedItems(), page.getPaginatedItems().map((payment) => payment.id)),
  );
  const wanted = (payments?.getPaginatedItems() ?? []).slice(0, PAYMENTS_MAX).map(({ id }) => ({ payment_id: id }));
  if (wanted.length > 0) {
    await step(customer, "pay-statement", () => hris.payStatements.retrieveMany({ requests: wanted }), readBatch("payment_id"));
  }

  await step(customer, "not-found", () => hris.benefits.retrieve(plan.unknown_id), (b) => rows([b], [b.benefit_id]));
  const some = [...people.slice(0, 1), { individual_id: plan.unknown_id }];
  await step(customer, "partial", () => hris.individuals.retrieveMany({ requests: some }), individuals);
}

/** A customer whose login has ended: the error, and when asked for, the way back. */
async function reauthenticate(broken) {
  const finch = client(broken.access_token);
  await readCompany(finch, broken.id, "reauth");
  if (!broken.repair) return;
  const found = await step(broken.id, "introspect", () => finch.account.introspect(), readIntrospection);
  if (found === undefined) return;
  const token = await exchange(broken.id, () =>
    client().connect.sessions.reauthenticate({ connection_id: found.connection_id }),
  );
  if (token !== undefined) await readCompany(client(token), broken.id, "repaired");
}

/** One call, whatever comes of it: how the SDK takes an error, and how often it tries by itself. */
async function probe({ customer, access_token, call }) {
  const finch = client(access_token);
  if (call === "company") return readCompany(finch, customer, "probe");
  if (call === "directory") return step(customer, "probe", () => finch.hris.directory.list(), readDirectory);
  if (call === "benefit") return step(customer, "probe", () => finch.hris.benefits.create(), (b) => rows([b], [b.benefit_id]));
  throw new Error(`${call} is no call of a probe`);
}

/** A write that takes longer than the SDK waits; the SDK gives up and sends it again by itself. */
async function slowWrite(writer) {
  const { benefits } = client(writer.access_token).hris;
  const wanted = { type: "457", description: "Slow plan", frequency: "monthly" };
  await step(writer.id, "slow-write", () => benefits.create(wanted), (b) => [{ benefit_id: b.benefit_id }, {}]);
}

/** A webhook as the app got it: whether the SDK believes it, and what it reads. */
function unwrap({ customer, body, headers, secret }) {
  const step = { customer, step: "webhook" };
  steps.push(step);
  const { webhooks } = client();
  try {
    webhooks.verifySignature(body, headers, secret);
    const event = webhooks.unwrap(body, headers, secret);
    Object.assign(step, { outcome: "ok", event_type: event.event_type, connection_id: event.connection_id });
  } catch (refused) {
    Object.assign(step, { outcome: "error", message: refused.message });
  }
}

/** A webhook as Finch sends it, signed with nothing of perch's and nothing of the SDK's. */
async function tell({ customer, url, id, body, secret }) {
  const at = String(Math.floor(Date.now() / 1000));
  const signature = createHmac("sha256", Buffer.from(secret, "base64")).update(`${id}.${at}.${body}`).digest("base64");
  const headers = { "Finch-Event-Id": id, "Finch-Timestamp": at, "Finch-Signature": `v1,${signature}` };
  const { status } = await fetch(url, { method: "POST", headers, body });
  steps.push({ customer, step: "tell", outcome: "ok", status });
}

for (const customer of plan.customers) {
  const token = plan.connect ? await connect(customer) : customer.access_token;
  if (token !== undefined) await sync(customer.id, token);
  if (plan.connect && customer.access_token !== undefined) {
    await readCompany(client(customer.access_token), customer.id, "by-plan-token");
  }
}
if (plan.reauth !== undefined) await reauthenticate(plan.reauth);
if (plan.slow_write !== undefined) await slowWrite(plan.slow_write);
for (const each of plan.probe ?? []) await probe(each);
for (const hook of plan.tell ?? []) await tell(hook);
for (const hook of plan.webhooks ?? []) unwrap(hook);

const sdk = { language: "node", sdk: version, runtime: process.versions.node };
process.stdout.write(`${JSON.stringify({ steps, volatile: { ...sdk, tokens } }, null, 1)}\n`);
