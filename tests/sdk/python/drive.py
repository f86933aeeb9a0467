"""Drives Finch's official Python SDK, unchanged and with its default settings, through one plan.

    FINCH_BASE_URL=http://127.0.0.1:4600 .cache/sdk/python/bin/python tests/sdk/python/drive.py [PLAN.json]

The plan and the report are described in tests/sdk/README.md; drive.mjs does the same with the Node SDK.
Whatever may differ between two runs that mean the same stands under a member named `volatile`.
"""

import base64
import hashlib
import hmac
import json
import platform
import sys
import time
import urllib.error
import urllib.request

import finch
from finch import APIStatusError, Finch

PAYMENTS_MAX = 10  # Finch takes no more payments in one pay-statement request


class Report:
    """What happened, step by step, and every token the SDK was given or gave."""

    def __init__(self):
        self.steps = []
        self.tokens = []

    def client(self, token, plan):
        """A client as an app makes one; the base URL comes from FINCH_BASE_URL."""
        if token is not None and token not in self.tokens:
            self.tokens.append(token)
        return Finch(access_token=token, client_id=plan["client_id"], client_secret=plan["client_secret"])

    def step(self, customer, name, call, read):
        """Makes one call of the SDK and notes what an app would see of it."""
        step = {"customer": customer, "step": name}
        self.steps.append(step)
        try:
            raw = call()
            value = raw.parse()
            found, volatile = read(value)
            step |= {"outcome": "ok", "status": raw.status_code, **seen(raw.headers, volatile), **found}
            return value
        except APIStatusError as error:
            body = error.body if isinstance(error.body, dict) else {"message": error.body}
            told = {key: body.get(key) for key in ("code", "name", "finch_code", "message")}
            step |= {
                "outcome": "error",
                "status": error.status_code,
                "class": type(error).__name__,
                "body": told,
                **seen(error.response.headers, {"perch": body.get("perch")}),
            }
            return None


def seen(headers, volatile):
    """What the headers tell: that a request id came, and (volatile) which."""
    names = ("finch-request-id", "perch-request-id", "perch-class", "perch-batch")
    return {
        "has_request_id": bool(headers.get("finch-request-id")),
        "volatile": {name: headers.get(name) for name in names} | volatile,
    }


def digest(values):
    """One short text for all the data, the same when the data is."""
    plain = [value.to_dict(mode="json") for value in values]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rows(values, ids, **more):
    return {"rows": len(ids), "ids": ids, "digest": digest(values), **more}, {}


def read_directory(page):
    """Follows the pages to the end, as the SDK does it by itself."""
    pages = list(page.iter_pages())
    people = [person for each in pages for person in each.individuals]
    return rows(people, [person.id for person in people], pages=len(pages))


def read_batch(key):
    def read(page):
        items = [item.to_dict(mode="json") for item in page]
        told = [{"id": i.get(key), "code": i.get("code"), "finch_code": (i.get("body") or {}).get("finch_code")} for i in items]
        told.sort(key=lambda item: item["id"])
        return rows(list(page), [item["id"] for item in told], items=told)

    return read


def log_in(url):
    """The employer opens the link in a browser; the simulator answers with the code."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["code"]


def exchange(report, plan, customer, open_session):
    """Session, login, code for token: what an app does when a customer connects. Returns the token."""
    read_session = lambda s: ({"has_url": bool(s.connect_url)}, {"session_id": s.session_id, "connect_url": s.connect_url})
    session = report.step(customer, "session", open_session, read_session)
    if session is None:
        return None
    code = log_in(session.connect_url)
    client = report.client(None, plan)
    read_token = lambda t: (
        {
            "customer_id": t.customer_id,
            "connection_id": t.connection_id,
            "provider_id": t.provider_id,
            "products": sorted(t.products),
            "entities": len(t.entity_ids),
        },
        {"access_token": t.access_token},
    )
    answer = report.step(customer, "exchange", lambda: client.access_tokens.with_raw_response.create(code=code), read_token)
    if answer is not None:
        report.tokens.append(answer.access_token)
    return answer and answer.access_token


def connect(report, plan, customer):
    client = report.client(None, plan)
    sessions = client.connect.sessions.with_raw_response
    integration = {"integration": {"provider": customer["provider"]}} if "provider" in customer else {}
    return exchange(
        report,
        plan,
        customer["id"],
        lambda: sessions.new(
            customer_id=customer["id"],
            customer_name=customer.get("name", customer["id"]),
            products=plan["products"],
            **integration,
        ),
    )


def read_company(report, client, customer, name):
    return report.step(customer, name, client.hris.company.with_raw_response.retrieve, lambda c: rows([c], [c.id]))


def read_introspection(found):
    status = found.connection_status.to_dict(mode="json").get("status")
    told = {
        "client_id": found.client_id,
        "connection_id": found.connection_id,
        "customer_id": found.customer_id,
        "provider_id": found.provider_id,
        "products": sorted(found.products),
        "connection_status": status,
    }
    return told, {"id": found.id}


def sync(report, plan, customer, token):
    """Everything a nightly job reads, then what can go wrong with it."""
    client = report.client(token, plan)
    hris = client.hris
    step = lambda name, call, read: report.step(customer, name, call, read)

    read_company(report, client, customer, "company")
    step("introspect", client.account.with_raw_response.introspect, read_introspection)
    step("directory", lambda: hris.directory.with_raw_response.list(limit=plan["page_size"]), read_directory)
    people = [{"individual_id": each} for each in report.steps[-1].get("ids", [])]
    if people:
        step("individual", lambda: hris.individuals.with_raw_response.retrieve_many(requests=people), read_batch("individual_id"))
        step("employment", lambda: hris.employments.with_raw_response.retrieve_many(requests=people), read_batch("individual_id"))

    payments = step(
        "payment",
        lambda: hris.payments.with_raw_response.list(start_date=plan["start_date"], end_date=plan["end_date"]),
        lambda page: rows(list(page), [payment.id for payment in page]),
    )
    wanted = [{"payment_id": payment.id} for payment in list(payments or [])[:PAYMENTS_MAX]]
    if wanted:
        step("pay-statement", lambda: hris.pay_statements.with_raw_response.retrieve_many(requests=wanted), read_batch("payment_id"))

    step("not-found", lambda: hris.benefits.with_raw_response.retrieve(plan["unknown_id"]), lambda b: rows([b], [b.benefit_id]))
    some = [*people[:1], {"individual_id": plan["unknown_id"]}]
    step("partial", lambda: hris.individuals.with_raw_response.retrieve_many(requests=some), read_batch("individual_id"))


def reauthenticate(report, plan, broken):
    """A customer whose login has ended: the error, and when asked for, the way back."""
    client = report.client(broken["access_token"], plan)
    read_company(report, client, broken["id"], "reauth")
    if not broken.get("repair"):
        return
    found = report.step(broken["id"], "introspect", client.account.with_raw_response.introspect, read_introspection)
    if found is None:
        return
    sessions = report.client(None, plan).connect.sessions.with_raw_response
    token = exchange(report, plan, broken["id"], lambda: sessions.reauthenticate(connection_id=found.connection_id))
    if token is not None:
        read_company(report, report.client(token, plan), broken["id"], "repaired")


def probe(report, plan, each):
    """One call, whatever comes of it: how the SDK takes an error, and how often it tries by itself."""
    client = report.client(each["access_token"], plan)
    match each["call"]:
        case "company":
            read_company(report, client, each["customer"], "probe")
        case "directory":
            report.step(each["customer"], "probe", client.hris.directory.with_raw_response.list, read_directory)
        case "benefit":
            create = client.hris.benefits.with_raw_response.create
            report.step(each["customer"], "probe", create, lambda b: rows([b], [b.benefit_id]))
        case other:
            raise ValueError(f"{other} is no call of a probe")


def slow_write(report, plan, writer):
    """A write that takes longer than the SDK waits; the SDK gives up and sends it again by itself."""
    benefits = report.client(writer["access_token"], plan).hris.benefits.with_raw_response
    report.step(
        writer["id"],
        "slow-write",
        lambda: benefits.create(type="457", description="Slow plan", frequency="monthly"),
        lambda benefit: ({"benefit_id": benefit.benefit_id}, {}),
    )


def unwrap(report, plan, hook):
    """A webhook as the app got it: whether the SDK believes it, and what it reads."""
    step = {"customer": hook["customer"], "step": "webhook"}
    report.steps.append(step)
    webhooks = report.client(None, plan).webhooks
    try:
        webhooks.verify_signature(hook["body"], hook["headers"], secret=hook["secret"])
        event = webhooks.unwrap(hook["body"], hook["headers"], secret=hook["secret"])
        step |= {"outcome": "ok", "event_type": event.event_type, "connection_id": event.connection_id}
    except ValueError as refused:
        step |= {"outcome": "error", "message": str(refused)}


def tell(report, hook):
    """A webhook as Finch sends it, signed with nothing of perch's and nothing of the SDK's."""
    at = str(int(time.time()))
    body = hook["body"].encode()
    key = base64.b64decode(hook["secret"])
    signature = hmac.new(key, f"{hook['id']}.{at}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "Finch-Event-Id": hook["id"],
        "Finch-Timestamp": at,
        "Finch-Signature": "v1," + base64.b64encode(signature).decode(),
        "Content-Type": "application/json",
    }
    try:
        with urllib.request.urlopen(urllib.request.Request(hook["url"], body, headers)) as answer:
            status = answer.status
    except urllib.error.HTTPError as refused:
        status = refused.code
    report.steps.append({"customer": hook["customer"], "step": "tell", "outcome": "ok", "status": status})


def main():
    source = open(sys.argv[1], encoding="utf-8") if len(sys.argv) > 1 else sys.stdin
    with source:
        plan = {
            "client_id": "unused",
            "client_secret": "unused",
            "products": ["company", "directory", "individual", "employment", "payment", "pay_statement", "benefits"],
            "page_size": 2,
            "start_date": "2000-01-01",
            "end_date": "2099-12-31",
            "unknown_id": "00000000-0000-4000-8000-00000000dead",
        } | json.load(source)

    report = Report()
    for customer in plan["customers"]:
        token = connect(report, plan, customer) if plan.get("connect") else customer["access_token"]
        if token is not None:
            sync(report, plan, customer["id"], token)
        if plan.get("connect") and "access_token" in customer:
            read_company(report, report.client(customer["access_token"], plan), customer["id"], "by-plan-token")
    if "reauth" in plan:
        reauthenticate(report, plan, plan["reauth"])
    if "slow_write" in plan:
        slow_write(report, plan, plan["slow_write"])
    for each in plan.get("probe", []):
        probe(report, plan, each)
    for hook in plan.get("tell", []):
        tell(report, hook)
    for hook in plan.get("webhooks", []):
        unwrap(report, plan, hook)

    sdk = {"language": "python", "sdk": finch.__version__, "runtime": platform.python_version()}
    json.dump({"steps": report.steps, "volatile": {**sdk, "tokens": report.tokens}}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
