#!/usr/bin/env python3
"""Makes the Grafana dashboards out of the table below: `dashboards/make.py` writes overview.json, connections.json,
quota.json and runtime.json beside itself, and rules/prometheusrule.yaml, which is rules/perch.rules.yml for the Prometheus
operator. `--check` fails when one of them is not what it would write.

A row of the table is a panel: title, unit, what it shows and what to make of it, and its queries. In a query `SEL` stands
for the board's variables; whoever shares a store or a quota tells the same numbers, so those are taken by `max`, and what
each replica counts for itself by `sum`.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
SELECT = 'job=~"$job",namespace=~"$namespace",pod=~"$pod",instance=~"$instance"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RATE = "[$__rate_interval]"
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"

# What every class of an answer means at a glance; the words are perch's own.
GOOD = 'class=~"ok|partial|not_ready"'


def steps(*points):
    """Thresholds: (RED,) is a colour for all, (GREEN, (1, RED)) turns red from 1 on."""
    return [{"color": points[0], "value": None}] + [{"color": c, "value": v} for v, c in points[1:]]


def stat(title, unit, description, query, thresholds=(BLUE,), words=None, decimals=None, over_range=False):
    """One number. `words` are shown in place of values."""
    defaults = {
        "unit": unit,
        "color": {"mode": "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps(*thresholds)},
        "mappings": [{
            "type": "value",
            "options": {value: {"text": text, "index": at} for at, (value, text) in enumerate(words.items())},
        }] if words else [],
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    return {
        "type": "stat",
        "title": title,
        "description": description,
        "size": (4, 4),
        "queries": [(query, "")],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "colorMode": "value",
            "graphMode": "none" if over_range or words else "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showPercentChange": False,
            "textMode": "auto",
            "wideLayout": True,
        },
    }


def graph(title, unit, description, *queries, stacked=False, limit=None, top=None, width=8):
    """Lines over time. `limit` draws a line that should not be crossed, `top` is the end of the axis."""
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 30 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "axisPlacement": "auto",
        "thresholdsStyle": {"mode": "off" if limit is None else "line"},
    }
    thresholds = (GREEN,) if limit is None else (GREEN, (limit, RED))
    defaults = {
        "unit": unit,
        "min": 0,
        "color": {"mode": "palette-classic"},
        "custom": custom,
        "thresholds": {"mode": "absolute", "steps": steps(*thresholds)},
        "mappings": [],
    }
    if top is not None:
        defaults["max"] = top
    return {
        "type": "timeseries",
        "title": title,
        "description": description,
        "size": (width, 8),
        "queries": queries,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def row(title):
    return {"type": "row", "title": title}


def quantile(q, metric, by, select="SEL"):
    labels = ", ".join(["le", *by])
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{select}}}{RATE})))"


def rate(metric, by, select="SEL"):
    return f"sum by ({', '.join(by)}) (rate({metric}{{{select}}}{RATE}))"


def held(metric, by, select="SEL"):
    """What all replicas of one store or quota tell alike."""
    return f"max by ({', '.join(by)}) ({metric}{{{select}}})"


def since(metric, select="SEL"):
    return f"sum(increase({metric}{{{select}}}[$__range]))"


def connections(matcher):
    return held("perch_connections", ["provider"], f"SEL,{matcher}")


ACTIVE, NEEDS_REAUTH, HELD = (connections(f'status="{status}"') for status in ("active", "needs_reauth", "held"))
CONNECTED = held("perch_connections", ["status", "provider"], 'SEL,status!="disconnected"')

OVERVIEW = [
    row("Now"),
    stat("Calls", "reqps", "Calls that apps make, a second. Refusals count.", f"sum(rate(perch_calls_total{{SEL}}{RATE}))", decimals=2),
    stat("Good answers", "percentunit",
         "Share of calls that ended as ok, partial or not_ready. The rest is in *Calls that were not answered well*.",
         f"sum(rate(perch_calls_total{{SEL,{GOOD}}}{RATE})) / sum(rate(perch_calls_total{{SEL}}{RATE}))",
         (RED, (0.9, YELLOW), (0.99, GREEN)), decimals=1),
    stat("Slowest 1 in 20", "s", "95 of 100 calls took no longer than this, waiting for quota and Finch's own time included.",
         quantile(0.95, "perch_call_duration_seconds", [], 'SEL,phase="total"')),
    stat("429s from Finch", "short",
         "In the time that is shown. Must be 0: perch exists to keep Finch's limits. See PerchFinch429 in docs/operate.md.",
         since("perch_finch_429_total"), (GREEN, (1, RED)), decimals=0, over_range=True),
    stat("Held", "short",
         "Scopes that must not be called now, whichever they are: products, the IP, connections, the application.",
         f"sum({held('perch_holds', ['scope'])})", (GREEN, (1, YELLOW)), decimals=0),
    stat("Replicas", "short", "Gateways that are scraped.", "count(perch_build_info{SEL})", (RED, (1, GREEN)), decimals=0),
    row("Traffic"),
    graph("Calls by product", "reqps", "What apps ask for. A call that took another one's outcome counts too.",
          (rate("perch_calls_total", ["product"]), "{{product}}"), stacked=True),
    graph("Calls that were not answered well", "reqps",
          "By class, which says what went wrong and who can mend it: README, *Errors*. Nothing here is as it should be.",
          (f"sum by (class) (rate(perch_calls_total{{SEL,class!~\"ok|partial|not_ready\"}}{RATE}))", "{{class}}"), stacked=True),
    graph("Attempts at Finch by status", "reqps",
          "What was sent to Finch. `none`: no answer came. Fewer than calls where requests are shared or answers kept.",
          (rate("perch_attempts_total", ["status"]), "{{status}}"), stacked=True),
    row("Time"),
    graph("Calls", "s", "Half, 95 and 99 of 100 calls took no longer.",
          *((quantile(q, "perch_call_duration_seconds", [], 'SEL,phase="total"'), name)
            for q, name in [(0.5, "half"), (0.95, "95 %"), (0.99, "99 %")])),
    graph("By phase (95 %)", "s",
          "Where the time goes: `wait` for quota, `finch` until its answer was there, `perch` is what perch adds.",
          (quantile(0.95, "perch_call_duration_seconds", ["phase"]), "{{phase}}")),
    graph("By product (95 %)", "s", "The whole of a call. Live requests at some providers take minutes.",
          (quantile(0.95, "perch_call_duration_seconds", ["product"], 'SEL,phase="total"'), "{{product}}")),
    row("Limits"),
    graph("Quota left", "percentunit",
          "Share of each product's limit that is free. At 0 calls wait; the Quota board tells how long, and whether fairly.",
          (f"1 - {held('perch_quota_used', ['product'])} / ({held('perch_quota_limit', ['product'])} > 0)", "{{product}}"), top=1),
    graph("Calls that wait", "short", "For quota, in all replicas together, by priority.",
          ("sum by (priority) (perch_queue_depth{SEL})", "{{priority}}"), stacked=True),
    graph("Holds", "short", "Scopes that must not be called until a time. `ip` stops everything; `application` is for an operator.",
          (held("perch_holds", ["scope"]), "{{scope}}")),
    row("Saved and lost"),
    graph("Calls that needed no request", "percentunit",
          "Share of calls that took another one's outcome: resent, coalesced, batched with others, or answered from memory.",
          (f"sum by (how) (rate(perch_calls_merged_total{{SEL}}{RATE})) / on () group_left () sum(rate(perch_calls_total{{SEL}}{RATE}))",
           "{{how}}"), stacked=True, top=1),
    graph("Items of batches", "cps", "Items inside 200s: `failed` and `pending` ones are lost to an app that does not look.",
          (rate("perch_batch_items_total", ["outcome"]), "{{outcome}}"), stacked=True),
    graph("Sent again", "cps",
          "Attempts that perch made again, by what had failed; `over_budget` ones were not made.",
          (rate("perch_retries_total", ["why"]), "{{why}}"), stacked=True),
    row("Finch's errors"),
    graph("By Finch's own code", "cps", "`unknown_code` is one that perch has never heard of: the log names it once.",
          (rate("perch_finch_errors_total", ["finch_code"]), "{{finch_code}}"), stacked=True, width=12),
    graph("Kept answers", "cps", "Calls to products whose answers are kept (`merge.cache`), by what was found.",
          (rate("perch_cache_calls_total", ["result"]), "{{result}}"), stacked=True, width=12),
]

CONNECTIONS = [
    row("Now"),
    stat("Usable", "short", "Connections whose status is active.",
         f"sum({ACTIVE})", decimals=0),
    stat("Need reauthentication", "short",
         "Their customers must log in again; each has a `reauth_url`. See PerchReauthRising in docs/operate.md.",
         f"sum({NEEDS_REAUTH}) or vector(0)", (GREEN, (1, YELLOW)), decimals=0),
    stat("Held for an operator", "short",
         "Customer or environment did not agree when the token came: `perch connections list` tells which.",
         f"sum({HELD}) or vector(0)", (GREEN, (1, YELLOW)), decimals=0),
    stat("Disconnects under way", "short", "Finch has not confirmed them yet; perch goes on asking.",
         held("perch_disconnects_pending", ["job"]), (GREEN, (1, YELLOW)), decimals=0),
    stat("Data older than a day", "short",
         "Connections whose last answer was of data that Finch pulled more than a day ago. Assisted connections renew weekly.",
         f"sum({held('perch_connections_stale', ['job'])})", (GREEN, (1, YELLOW)), decimals=0),
    stat("Webhooks nobody took", "short", "Dead letters: `perch webhooks list` shows them, `perch webhooks replay` offers them again.",
         "max(perch_webhooks_queue{SEL,state=\"dead\"})", (GREEN, (1, RED)), decimals=0),
    row("The vault"),
    graph("By status", "short", "All connections that perch knows. Disconnected ones stay for the bill.",
          (f"sum by (status) ({held('perch_connections', ['status', 'provider'])})", "{{status}}"), stacked=True),
    graph("By provider", "short", "Connections that are not disconnected.",
          (f"sum by (provider) ({CONNECTED})", "{{provider}}"), stacked=True),
    graph("In need of reauthentication by provider", "short",
          "Many at once at one provider are that provider's doing: a password policy, an outage of its log-in.",
          (f"{NEEDS_REAUTH} or 0 * {ACTIVE}", "{{provider}}"), stacked=True),
    row("Logins that ended"),
    graph("Known to be dead", "short", "Calls of these logins are answered without Finch.",
          (held("perch_dead_logins", ["class"]), "{{class}}")),
    graph("Calls answered for them", "cps", "Requests that were spared, by class.",
          (rate("perch_shielded_calls_total", ["class"]), "{{class}}"), stacked=True),
    graph("Questions and links", "cps", "`/introspect` asked whether a login is well again; links made for customers.",
          (rate("perch_probes_total", ["found"]), "asked: {{found}}"),
          (rate("perch_reauth_links_total", ["outcome"]), "link {{outcome}}")),
    row("Freshness"),
    graph("Age of data, half of the answers", "s", "Since Finch pulled it from the provider. Daily renewal keeps it under a day.",
          (quantile(0.5, "perch_data_age_seconds", ["product"]), "{{product}}"), limit=86400),
    graph("Age of data, oldest tenth", "s", "Above a day: Finch could not renew some connections' data.",
          (quantile(0.9, "perch_data_age_seconds", ["product"]), "{{product}}"), limit=86400),
    graph("Answers whose data could not be renewed", "cps", "A 200 all the same: only the headers tell. By how Finch's last attempt ended.",
          (rate("perch_stale_answers_total", ["product", "result"]), "{{product}}: {{result}}"), stacked=True),
    row("What comes in"),
    graph("Webhooks", "cps", "`bad_signature` is not Finch, or the secret is wrong; `dead` was given up.",
          (rate("perch_webhooks_total", ["outcome"]), "{{outcome}}"), stacked=True),
    graph("Webhooks that wait", "short", "Kept, and not done with.", (held("perch_webhooks_queue", ["state"]), "{{state}}")),
    graph("Fields of sampled answers", "cps", "`unknown_field`, `unknown_enum` and `type`: Finch says what perch does not know. `/api/drift` names them.",
          (rate("perch_fields_total", ["outcome"]), "{{outcome}}"), stacked=True),
    row("Answers that are not whole"),
    graph("Not looked into", "cps", "Too large (`listen.inspect_bytes_max`), or encoded: failed items in them are not counted.",
          (rate("perch_uninspected_answers_total", ["product"]) + " or vector(0)", "{{product}}"), width=12),
    graph("Directories cut at Finch's default page", "cps", "An app asked without `limit` and got the first hundred people only.",
          ("sum(rate(perch_directory_cut_total{SEL}" + RATE + "))", "cut"), width=12),
]

QUOTA = [
    row("Now"),
    stat("Fullest product", "percentunit", "The largest part of a limit that is in use.",
         f"max({held('perch_quota_used', ['product'])} / ({held('perch_quota_limit', ['product'])} > 0))",
         (GREEN, (0.8, YELLOW), (0.99, RED)), decimals=0),
    stat("429s from Finch", "short", "In the time that is shown. Must be 0.", since("perch_finch_429_total"),
         (GREEN, (1, RED)), decimals=0, over_range=True),
    stat("Replicas without their Redis", "short", "Each spends its lease, or nothing: PerchLimiterDegraded in docs/operate.md.",
         'sum(perch_limiter_mode{SEL,mode="degraded"})', (GREEN, (1, RED)), {"0": "none"}, decimals=0),
    stat("Least fair product", "percentunit",
         "Jain's index over what customers got of their fair share in the last minutes: 100 % is fair, 1/n is one of n taking all.",
         "min(perch_fairness_ratio{SEL})", (RED, (0.8, YELLOW), (0.95, GREEN)), decimals=0),
    stat("Calls that wait", "short", "In all replicas, for any product.", "sum(perch_queue_depth{SEL})", decimals=0),
    stat("Refused for a limit", "percentunit", "Share of calls told to come back later, because their patience would not do.",
         f"(sum(rate(perch_calls_total{{SEL,class=\"rate_limited\"}}{RATE})) or vector(0)) / sum(rate(perch_calls_total{{SEL}}{RATE}))",
         (GREEN, (0.01, YELLOW), (0.1, RED)), decimals=1),
    row("Use"),
    graph("Use of each limit", "percentunit", "Permits that are busy, of those there are. `egress-ip` is Finch's limit of the address.",
          (f"{held('perch_quota_used', ['product'])} / ({held('perch_quota_limit', ['product'])} > 0)", "{{product}}"), top=1),
    graph("Busy permits", "short", "As many requests count against each limit now.", (held("perch_quota_used", ["product"]), "{{product}}")),
    graph("Limits", "short", "As configured, or as this replica's lease allows.", (held("perch_quota_limit", ["product"]), "{{product}}")),
    row("Waiting"),
    graph("Wait by priority (95 %)", "s", "Of attempts, for a permit. Interactive ones go first; batch gets every sixth permit.",
          (quantile(0.95, "perch_wait_seconds", ["priority"]), "{{priority}}")),
    graph("Wait by product (95 %)", "s", "Of attempts, for a permit.", (quantile(0.95, "perch_wait_seconds", ["product"]), "{{product}}")),
    graph("Who waits", "short", "By product and priority, in all replicas.",
          ("sum by (product, priority) (perch_queue_depth{SEL})", "{{product}} {{priority}}"), stacked=True),
    row("Fairness"),
    graph("Jain's index", "percentunit", "Per product, as each replica saw its own calls; the least fair one is shown.",
          ("min by (product) (perch_fairness_ratio{SEL})", "{{product}}"), top=1),
    graph("Customers that had to wait", "short", "Lately, and for others of their kind: the more, the more fairness matters.",
          ("max by (product) (perch_customers_competing{SEL})", "{{product}}")),
    graph("Calls told to come back", "reqps", "By product. `perch plan` says which limit to ask Finch for.",
          (f"sum by (product) (rate(perch_calls_total{{SEL,class=\"rate_limited\"}}{RATE})) or 0 * sum by (product) (rate(perch_calls_total{{SEL}}{RATE}))",
           "{{product}}"), stacked=True),
    row("What must not be"),
    graph("429s by Finch's code", "cps", "Each is a limit that somebody exceeded: perch, another user of the application, or the provider's.",
          (rate("perch_finch_429_total", ["finch_code"]), "{{finch_code}}"), stacked=True),
    graph("Limiter", "short", "1 for the way in which each replica counts. `degraded` is for an operator.",
          ("sum by (mode) (perch_limiter_mode{SEL})", "{{mode}}"), stacked=True),
    graph("Calls refused because a permit could not be written down", "cps", "The journal beside the store, or Redis, takes nothing.",
          ("sum(rate(perch_no_ledger_total{SEL}" + RATE + "))", "refused")),
    row("Holds"),
    graph("Held scopes", "short", "`product`: after a 429; `ip`: Finch blocks the address; `connection`: its provider throttles; `refresh_quota`: refreshed too often.",
          (held("perch_holds", ["scope"]), "{{scope}}"), width=12),
    graph("Calls in one request", "short", "How many calls asked for their ids together (`merge.batch`): half of the shared requests, and 95 of 100.",
          *((quantile(q, "perch_calls_per_shared_attempt", []), name) for q, name in [(0.5, "half"), (0.95, "95 %")]), width=12),
]

RUNTIME = [
    row("Now"),
    stat("Replicas", "short", "Gateways that are scraped.", "count(perch_build_info{SEL})", (RED, (1, GREEN)), decimals=0),
    stat("Youngest", "s", "How long ago the last start was.", "time() - max(process_start_time_seconds{SEL})", decimals=0),
    stat("Versions", "short", "More than one while an update rolls out.", "count(count by (version) (perch_build_info{SEL}))",
         (GREEN, (2, YELLOW)), decimals=0),
    stat("Certificate ends in", "s", "The proxy door's own, or one between it and its authority. Nothing where the door speaks no TLS.",
         "min(perch_certificate_expiry_timestamp_seconds{SEL,which=\"proxy\"}) - time()", (RED, (172800, YELLOW), (1209600, GREEN)), decimals=0),
    stat("Age of the sealing key", "s", "Since the key that seals tokens was made: `perch keys rotate` makes a new one.",
         "time() - max(perch_sealing_key_created_timestamp_seconds{SEL})", (GREEN, (31536000, YELLOW)), decimals=0),
    stat("File descriptors", "percentunit", "The largest part of what the system allows that a replica has open.",
         "max(process_open_fds{SEL} / process_max_fds{SEL})", (GREEN, (0.6, YELLOW), (0.8, RED)), decimals=0),
    row("Process"),
    graph("CPU", "percentunit", "Of one core, for each replica.", (f"rate(process_cpu_seconds_total{{SEL}}{RATE})", "{{instance}}")),
    graph("Memory", "bytes", "In RAM, for each replica, and what kept answers take of it.",
          ("process_resident_memory_bytes{SEL}", "{{instance}}"), ("perch_cache_bytes{SEL}", "{{instance}}, kept answers")),
    graph("What perch adds to a call", "s", "The time of a call that is neither waiting nor Finch's.",
          *((quantile(q, "perch_call_duration_seconds", [], 'SEL,phase="perch"'), name) for q, name in [(0.5, "half"), (0.99, "99 %")])),
    row("Stores"),
    graph("Store (95 %)", "s", "A transaction, waiting for its turn included.",
          (quantile(0.95, "perch_store_duration_seconds", ["store", "op"]), "{{store}} {{op}}")),
    graph("Redis (95 %)", "s", "A call of the quota's script, or of the one that passes answers on.",
          (quantile(0.95, "perch_redis_duration_seconds", ["script"]), "{{script}}")),
    graph("Failures of stores", "cps", "`store` does not answer; `unreadable` tokens do not open; Redis by script and kind.",
          (rate("perch_vault_errors_total", ["kind"]), "vault: {{kind}}"),
          (rate("perch_redis_errors_total", ["script", "kind"]), "redis {{script}}: {{kind}}")),
    row("Evidence"),
    graph("Request ledger", "cps", "Calls written to the ledger, and those dropped because it could not keep up.",
          (f"sum(rate(perch_ledger_written_total{{SEL}}{RATE}))", "written"), (f"sum(rate(perch_ledger_dropped_total{{SEL}}{RATE}))", "dropped")),
    graph("Request ledger's queue", "short", "Calls that wait to be written.", ("perch_ledger_queue{SEL}", "{{instance}}")),
    graph("Lost elsewhere", "cps", "Access lines nobody read, and samples for drift that were too many.",
          (f"sum(rate(perch_access_lines_dropped_total{{SEL}}{RATE}))", "access lines"),
          (f"sum(rate(perch_drift_dropped_total{{SEL}}{RATE}))", "samples for drift")),
    row("Doors and settings"),
    graph("TLS handshakes refused", "cps", "At the proxy door, by reason. `expired` and `unknown_issuer` are certificates of apps.",
          (rate("perch_handshakes_refused_total", ["why"]), "{{why}}"), stacked=True),
    graph("Reloads of the configuration", "short", "In each interval. `refused`: the older settings hold, because of a mistake or a key that needs a restart; GET /api/config tells which.",
          (f"sum by (outcome) (increase(perch_config_reloads_total{{SEL}}{RATE}))", "{{outcome}}")),
    graph("Secrets found in answers", "cps", "Tokens taken out of Finch's answers, and real tokens that apps brought along. The first must be 0.",
          (f"sum(rate(perch_redactions_total{{SEL}}{RATE}))", "taken out"), (f"sum(rate(perch_passed_through_total{{SEL}}{RATE}))", "brought along")),
    row("Switches and traces"),
    graph("Paused", "short", "Customers, products or providers that an operator has paused.", (held("perch_paused", ["scope"]), "{{scope}}")),
    graph("What observed limits would have done", "cps", "Where limits are only observed, nothing waits: this tells what would have.",
          (rate("perch_limiter_observed_total", ["would"]) + " or sum(0 * perch_limiter_observes{SEL})", "{{would}}")),
    graph("Refused by roll-out", "cps", "Calls for customers or providers that perch does not work for yet.",
          (f"sum(rate(perch_rollout_refused_total{{SEL}}{RATE}))", "refused")),
    graph("Traces", "cps", "Spans sent to the collector, dropped for want of room, and failed there.",
          (rate("perch_traces_total", ["outcome"]), "{{outcome}}")),
]

BOARDS = {
    "overview": ("perch / Overview", "How perch does as a whole: traffic, what goes wrong, time, limits, what is saved.", OVERVIEW),
    "connections": ("perch / Connections", "Customers' links to their employment systems: status, logins, freshness, webhooks.", CONNECTIONS),
    "quota": ("perch / Quota", "Finch's limits: use, waits, fairness, holds, and the 429s that must not be.", QUOTA),
    "runtime": ("perch / Runtime", "The gateways themselves: CPU, memory, stores, evidence, certificates and keys.", RUNTIME),
}


def variable(name, label, metric="perch_build_info", of='job=~"$job"'):
    """A choice among the values of a label. All means any value, and none: not everybody has pods."""
    text = f"label_values({metric}{{{of}}}, {name})" if of else f"label_values({metric}, {name})"
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "query": {"query": text, "refId": f"variable-{name}"},
        "definition": text,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    }


VARIABLES = [
    {
        "type": "datasource",
        "name": "datasource",
        "label": "Prometheus",
        "query": "prometheus",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
        "current": {"selected": False, "text": "default", "value": "default"},
        "options": [],
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    },
    variable("job", "Job", of=""),
    variable("namespace", "Namespace"),
    variable("pod", "Pod"),
    variable("instance", "Instance"),
]

ANNOTATIONS = [
    {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    },
    {
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "name": "perch's alerts",
        "expr": 'ALERTS{alertname=~"Perch.*",alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}} {{instance}}",
        "step": "60s",
    },
]


def place(table):
    """Puts the panels side by side as they come, 24 columns wide, and numbers them."""
    panels, x, y, tallest = [], 0, 0, 0
    for number, entry in enumerate(table, 1):
        entry = dict(entry)
        if entry["type"] == "row":
            y, x, tallest = y + tallest, 0, 0
            panels.append({
                "id": number, "type": "row", "title": entry["title"], "collapsed": False, "panels": [],
                "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
            })
            y += 1
            continue
        width, height = entry.pop("size")
        if x + width > 24:
            y, x, tallest = y + tallest, 0, 0
        targets = [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": query.replace("SEL", SELECT),
                "legendFormat": legend or "__auto",
                "range": True,
                "instant": False,
            }
            for at, (query, legend) in enumerate(entry.pop("queries"))
        ]
        panels.append({
            "id": number, "datasource": SOURCE, "gridPos": {"x": x, "y": y, "w": width, "h": height}, "targets": targets, **entry,
        })
        x, tallest = x + width, max(tallest, height)
    return panels


def board(name):
    title, description, table = BOARDS[name]
    return {
        "uid": f"perch-{name}",
        "title": title,
        "description": description,
        "tags": ["perch"],
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": None,
        "links": [{
            "asDropdown": False, "icon": "external link", "includeVars": True, "keepTime": True, "tags": ["perch"],
            "targetBlank": False, "title": "perch", "tooltip": "", "type": "dashboards", "url": "",
        }],
        "annotations": {"list": ANNOTATIONS},
        "templating": {"list": VARIABLES},
        "panels": place(table),
        "refresh": "30s",
        "schemaVersion": 41,
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "version": 1,
    }


def prometheus_rule():
    """The rules as the operator's object, line for line; what stands before the groups is about the file."""
    rules = (HERE / "rules/perch.rules.yml").read_text(encoding="utf-8")
    groups = rules[rules.index("groups:\n"):]
    spec = "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))
    return (
        "# perch.rules.yml for the Prometheus operator; dashboards/make.py writes it. Some operators read only what carries a\n"
        "# label of theirs, such as release: kube-prometheus-stack.\n"
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: perch\nspec:\n" + spec
    )


def main():
    is_check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not is_check:
        sys.exit("usage: make.py [--check]")
    texts = {f"{name}.json": json.dumps(board(name), indent=2, ensure_ascii=False) + "\n" for name in BOARDS}
    texts["rules/prometheusrule.yaml"] = prometheus_rule()
    behind = []
    for name, text in texts.items():
        file = HERE / name
        if is_check:
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                behind.append(file.name)
        else:
            file.write_text(text, encoding="utf-8")
    if behind:
        sys.exit(f"{', '.join(behind)}: not what make.py makes; run python3 dashboards/make.py")


if __name__ == "__main__":
    main()
