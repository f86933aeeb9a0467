-- The shared ledger: limit/ledger.rs, and in members.lua, which follows this file, limit/members.rs,
-- step for step, in one atomic script. A differential test holds the two together, so a rule is
-- changed in both or in none. Times and spans are whole microseconds of this server's clock; every
-- key has the prefix KEYS[1], whose hash tag keeps them all in one slot. Keys carry no time to live:
-- no eviction policy for volatile keys may take what was spent.
--
-- KEYS[1]  prefix         ARGV  1 operation  2 run of this server  3 latest time expected here, or 0
--                               4 rules (see `rule` below)  5.. arguments of the operation
-- Every answer begins with this server's time. 'S' second: the clock went ahead of what the caller
-- expects; nothing was done.

local P, OP, RUN, EXPECTED = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])

local INTERACTIVE, BATCH = 0, 1
local QUOTA, HOLD, LEARNING, QUEUE_FULL, CUSTOMER_QUEUE_FULL = 0, 1, 2, 3, 4
local PRODUCT, EGRESS_IP = 0, 1
local CLAIM_TIME, RESERVE_FOR, IP_RESERVE, SWEEP_MAX, PROBE_LOOK = 250000, 600000000, 20, 8, 1000000
local STEP, RUN_MAX, FLOWS_MAX = 720720, 5, 10000
local PAD_STEP, PAD_MAX, PAD_TRUST, PAD_CLEAN = 250000, 1000000, 100000, 600000000
local SECOND_WITHIN, CLEAN = 600000000, 120000000
-- A clock that goes back by more than this, or ahead by more than this, is not believed.
local BACK_MAX, AHEAD_MAX = 5000000, 1000000
local UNUSED_FOR = 3600000000

local call, floor, max, min = redis.call, math.floor, math.max, math.min

local RULES = {}
for n in string.gmatch(ARGV[4], '%d+') do RULES[#RULES + 1] = tonumber(n) end
local rule = {
  window = RULES[1], pad = RULES[2], flight = RULES[3], answer_max = RULES[4], pacing = RULES[5] == 1,
  queue_max = RULES[6], queue_per_customer_max = RULES[7], stale = RULES[8], silence = RULES[9],
  lease_life = RULES[10], call_timeout = RULES[11], share_percent = RULES[12], ip_requests = RULES[13],
  ip_window = RULES[14], products = #RULES - 14,
}
local SPAN, IP_SPAN = rule.window + rule.pad, rule.ip_window + rule.pad

-- The limit of a product, 0 to products - 1; 0 where it has none.
local function limit_of(product) return RULES[15 + product] end

local G, IP, TICKETS, FLOWS, DEADLINES = P .. ':g', P .. ':ip', P .. ':t', P .. ':f', P .. ':d'
local MEMBERS, ALIVE, UNUSED = P .. ':m', P .. ':a', P .. ':u'
local function key(product, name) return P .. ':' .. product .. ':' .. name end

local function wipe()
  local keys = { G, IP, TICKETS, FLOWS, DEADLINES, MEMBERS, ALIVE, UNUSED }
  for product = 0, rule.products - 1 do
    for _, name in ipairs({ 'e', 'b', 'q0', 'q1', 'w', 'v0', 'v1', 's' }) do keys[#keys + 1] = key(product, name) end
  end
  call('DEL', unpack(keys))
end

-- Time does not run backwards here; a clock that was set is not believed, and all is learnt anew.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
if EXPECTED > 0 and now > EXPECTED + AHEAD_MAX then return { now, 'S' } end
local last_now = tonumber(call('HGET', G, 'now') or 0)
if OP == 'skew' or now < last_now - BACK_MAX then
  wipe()
elseif now < last_now then
  now = last_now
end

local g = {}
do
  local names = { 'run', 'turn', 'phantom', 'ip_hold', 'probation', 'probe', 'probe_until', 'learn', 'away', 'next', 'census', 'hope' }
  local values = call('HMGET', G, unpack(names))
  for i, name in ipairs(names) do g[name] = values[i] or nil end
  for _, name in ipairs({ 'turn', 'phantom', 'ip_hold', 'probe_until', 'learn', 'next' }) do g[name] = tonumber(g[name] or 0) end
  g.away = g.away or ''
end
local changed = { 'now', now }
local function set(name, value)
  g[name] = value
  changed[#changed + 1] = name
  changed[#changed + 1] = value
end

-- One product's own facts.
local desks = {}
local function desk(product)
  local d = desks[product]
  if not d then
    local v = call('HMGET', key(product, 's'), 'hold', 'run', 'v0', 'v1', 'batch', 'inter', 'last', 'deficit', 'pad')
    d = {
      hold = tonumber(v[1] or 0), run = tonumber(v[2] or 0), [INTERACTIVE] = tonumber(v[3] or 0),
      [BATCH] = tonumber(v[4] or 0), batch = tonumber(v[5]) or nil, inter = tonumber(v[6]) or nil,
      last = tonumber(v[7]) or nil, deficit = tonumber(v[8] or 0), pad = tonumber(v[9] or 0),
    }
    desks[product] = d
  end
  return d
end
local function put(product, ...) call('HSET', key(product, 's'), ...) end

-- limit/foreign.rs
local function clean(d, span) return d.last and floor((now - d.last) / span) or 0 end
local function deficit(product)
  return max(0, desk(product).deficit - clean(desk(product), CLEAN))
end
local function extra_pad(product)
  return max(0, desk(product).pad - PAD_TRUST * clean(desk(product), PAD_CLEAN))
end
-- When the limit grows next; nil when it is whole.
local function grows_at(product)
  local d = desk(product)
  if not d.last or deficit(product) == 0 then return nil end
  return d.last + CLEAN * (clean(d, CLEAN) + 1)
end
local function span_of(product) return SPAN + extra_pad(product) end

-- limit/bucket.rs: sets of permits by stamp.
local function nth_free(bucket, ahead, cap, span)
  if cap == 0 then return now + span end
  local later, place = span * floor(ahead / cap), ahead % cap
  local busy = place + call('ZCARD', bucket) - cap
  if busy < 0 then return now + later end
  local stamp = tonumber(call('ZRANGE', bucket, busy, busy, 'WITHSCORES')[2])
  return (stamp and min(stamp, now) + span or now) + later
end

local function cool(product)
  local gone = now - span_of(product)
  call('ZREMRANGEBYSCORE', key(product, 'e'), '-inf', gone)
  call('ZREMRANGEBYSCORE', key(product, 'b'), '-inf', gone)
  call('ZREMRANGEBYSCORE', IP, '-inf', now - IP_SPAN)
  -- Long after both have let go of it: what was never used was never asked about again.
  call('ZREMRANGEBYSCORE', UNUSED, '-inf', now - max(IP_SPAN, SPAN) - UNUSED_FOR)
end

-- A ticket whose request has not arrived is among the unused.
local function put_in(ticket, product, class, stamp, is_used)
  if not is_used then call('ZADD', UNUSED, stamp, ticket) end
  if limit_of(product) > 0 then
    call('ZADD', key(product, 'e'), stamp, ticket)
    if class == BATCH then call('ZADD', key(product, 'b'), stamp, ticket) end
  end
  call('ZADD', IP, stamp, ticket)
end

local function restamp(ticket, product, stamp)
  for _, set_of in ipairs({ key(product, 'e'), key(product, 'b'), IP, UNUSED }) do call('ZADD', set_of, 'XX', stamp, ticket) end
end

local function take_out(ticket, product)
  for _, set_of in ipairs({ key(product, 'e'), key(product, 'b'), IP, UNUSED }) do call('ZREM', set_of, ticket) end
end

local function phantom()
  set('phantom', g.phantom + 1)
  return string.format('%032x', g.phantom - 1)
end

-- The stamp of a permit that is spent: of the product's bucket, or of the IP's when that is longer.
local function stamp_of(ticket, product)
  return tonumber(call('ZSCORE', key(product, 'e'), ticket) or call('ZSCORE', IP, ticket) or nil)
end

local function is_unused(ticket) return call('ZSCORE', UNUSED, ticket) end

-- Whether everything that counts the permit still does.
local function is_whole(ticket, product)
  return call('ZSCORE', IP, ticket) and (limit_of(product) == 0 or call('ZSCORE', key(product, 'e'), ticket))
end

-- Whether nobody who is alive has this run; see members.lua.
local is_dead

-- What is withdrawn of each limit.
local function away()
  local pools = { ip = 0 }
  for place, n in string.gmatch(g.away, '(%d+)=(%d+)') do
    place = tonumber(place)
    pools[place == rule.products and 'ip' or place] = tonumber(n)
  end
  return pools
end

-- limit/line.rs: a ticket is `product|class|tag|turn|step|due|deadline|flow`.
local function waiting(ticket)
  local text = call('HGET', TICKETS, ticket)
  if not text then return nil end
  local product, class, tag, turn, step, due, deadline, flow =
    string.match(text, '^(%d+)|(%d)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(.*)$')
  return {
    product = tonumber(product), class = tonumber(class), tag = tonumber(tag), turn = tonumber(turn),
    step = tonumber(step), due = tonumber(due), deadline = tonumber(deadline), flow = flow,
  }
end
local function keep(ticket, w)
  call('HSET', TICKETS, ticket, string.format('%d|%d|%.0f|%.0f|%.0f|%.0f|%.0f|%s',
    w.product, w.class, w.tag, w.turn, w.step, w.due, w.deadline, w.flow))
end
local function in_queue(turn, ticket) return string.format('%016x:%s', turn, ticket) end
local function in_flow(w, ticket) return string.format('%s:%02d:%d:%016x:%s', w.flow, w.product, w.class, w.turn, ticket) end
local function queue(product, class) return key(product, 'q' .. class) end
local function length(product, class) return call('ZCARD', queue(product, class)) end
local function head(product, class)
  local member = call('ZRANGE', queue(product, class), 0, 0)[1]
  return member and string.sub(member, 18)
end
local function advance(product, class, flow, tag, step)
  local v = key(product, 'v' .. class)
  call('ZADD', v, max(tag, tonumber(call('ZSCORE', v, flow) or 0)) + step, flow)
  if call('ZCARD', v) > FLOWS_MAX then call('ZPOPMIN', v) end
end

local function leave(ticket, is_served)
  local w = waiting(ticket)
  if not w then return false end
  local q = queue(w.product, w.class)
  call('HDEL', TICKETS, ticket)
  call('ZREM', q, in_queue(w.turn, ticket))
  call('ZREM', key(w.product, 'w'), ticket)
  call('ZREM', DEADLINES, ticket)
  call('ZREM', FLOWS, in_flow(w, ticket))
  if not is_served then
    local prefix = string.format('%s:%02d:%d:', w.flow, w.product, w.class)
    for _, member in ipairs(call('ZRANGEBYLEX', FLOWS, '[' .. prefix, '(' .. string.sub(prefix, 1, -2) .. ';')) do
      local other = string.sub(member, -32)
      local behind = waiting(other)
      if behind and behind.tag > w.tag then
        behind.tag = max(w.tag, behind.tag - w.step)
        call('ZADD', q, behind.tag, in_queue(behind.turn, other))
        keep(other, behind)
      end
    end
    local v = key(w.product, 'v' .. w.class)
    local finish = tonumber(call('ZSCORE', v, w.flow) or nil)
    if finish then
      call('ZADD', v, max(0, finish - w.step), w.flow)
      call('ZREMRANGEBYSCORE', v, '-inf', desk(w.product)[w.class])
    end
  end
  return true
end

local function run_of(ticket) return string.sub(ticket, 1, 16) end

local function sweep(product, asking, asking_run)
  for _ = 1, SWEEP_MAX do
    local first = call('ZRANGE', DEADLINES, 0, 0, 'WITHSCORES')
    if not first[1] or tonumber(first[2]) >= now or first[1] == asking then break end
    leave(first[1], false)
  end
  for _ = 1, SWEEP_MAX do
    local first = call('ZRANGE', key(product, 'w'), 0, 0, 'WITHSCORES')
    if not first[1] or tonumber(first[2]) + rule.stale >= now or first[1] == asking then break end
    leave(first[1], false)
  end
  for class = INTERACTIVE, BATCH do
    for _ = 1, SWEEP_MAX do
      local first = head(product, class)
      if not first or run_of(first) == asking_run or not is_dead(run_of(first)) then break end
      leave(first, false)
    end
  end
end

local function paced(product, rank, cap, batch_cap, span)
  local d, e = desk(product), key(product, 'e')
  local busy = call('ZCARD', e)
  local is_first_window = g.learn > 0 and now < g.learn + SPAN
  if not d.batch or (busy * 2 < cap and not is_first_window) then return now end
  local first = tonumber(call('ZRANGE', e, 0, 0, 'WITHSCORES')[2])
  if not first then return now end
  local next_return = min(first, now) + span
  local even = floor(span / max(1, batch_cap))
  local least = floor(even / 10) * 9
  local spread = floor(max(0, next_return - d.batch) / (max(0, cap - busy) + 1))
  local at = d.batch + max(least, min(spread, 2 * even)) + least * rank
  -- Fewer than half are busy from then on.
  return is_first_window and at or min(at, nth_free(e, 0, floor((cap + 1) / 2), span))
end

-- Whether the batch call of this rank is served in batch's sixth of the grants.
local function is_owed(product, rank)
  return length(product, INTERACTIVE) >= max(0, RUN_MAX - desk(product).run) + RUN_MAX * rank
end

local withdrawn
local function slot_behind(product, class, ahead, rank)
  withdrawn = withdrawn or away()
  local at, scope, reason = now, PRODUCT, QUOTA
  local function not_before(other, of, why)
    if other > at then at, scope, reason = other, of, why end
  end
  local d, owed = desk(product), class == BATCH and is_owed(product, rank)
  if limit_of(product) > 0 then
    local cap = max(0, max(0, limit_of(product) - deficit(product)) - (withdrawn[product] or 0))
    local span, e = span_of(product), key(product, 'e')
    at = nth_free(e, ahead, cap, span)
    local grows = ahead == 0 and grows_at(product) or nil
    if grows then at = min(at, max(grows, nth_free(e, 0, cap + 1, span))) end
    if class == BATCH then
      local reserved = cap > 1 and d.inter and d.inter + RESERVE_FOR > now and d.inter + RESERVE_FOR or nil
      local batch_cap = reserved and cap - 1 or cap
      local free = nth_free(key(product, 'b'), rank, batch_cap, span)
      if rule.pacing and not owed then free = max(free, paced(product, rank, cap, batch_cap, span)) end
      if grows then free = min(free, grows) end
      if ahead == 0 and reserved then free = min(free, reserved) end
      not_before(free, PRODUCT, QUOTA)
    end
  end
  local ip_cap = max(0, rule.ip_requests - withdrawn.ip)
  if class == BATCH and not owed then ip_cap = ip_cap - floor(ip_cap / IP_RESERVE) end
  not_before(nth_free(IP, 0, ip_cap, IP_SPAN), EGRESS_IP, QUOTA)
  not_before(d.hold, PRODUCT, HOLD)
  not_before(g.ip_hold, EGRESS_IP, HOLD)
  if g.probation == '1' and g.probe ~= '' and g.probe_until > now then
    not_before(min(g.probe_until, now + PROBE_LOOK), EGRESS_IP, HOLD)
  end
  not_before(g.hope == '1' and min(g.learn, now + PROBE_LOOK) or g.learn, PRODUCT, LEARNING)
  return at, scope, reason
end

local function ahead_of(product, class, rank)
  local d = desk(product)
  if class == BATCH then
    return rank + min(length(product, INTERACTIVE), max(0, RUN_MAX - d.run) + RUN_MAX * rank)
  end
  if d.run >= RUN_MAX and length(product, BATCH) > 0 then
    local w = waiting(head(product, BATCH))
    if w and w.due <= now + CLAIM_TIME and slot_behind(product, BATCH, 0, 0) <= now then return rank + 1 end
  end
  return rank
end

local function grant(ticket, product, class, flow, tag, step)
  put_in(ticket, product, class, now + rule.flight)
  if g.probation == '1' then
    set('probe', ticket)
    set('probe_until', now + rule.answer_max)
  end
  local d, v = desk(product), key(product, 'v' .. class)
  d[class] = max(d[class], tag)
  call('ZREMRANGEBYSCORE', v, '-inf', d[class])
  if step then advance(product, class, flow, tag, step) end
  d.run = class == INTERACTIVE and length(product, BATCH) > 0 and min(RUN_MAX, d.run + 1) or 0
  put(product, 'v' .. class, d[class], 'run', d.run)
  if class ~= BATCH then return end
  d.batch = now
  put(product, 'batch', now)
end

-- What a caller may tell its client: limit, used, time until it may be used, time until the next permit.
local function standing_of(limit, bucket, span, hold)
  local busy_from = '(' .. string.format('%.0f', now - span)
  local used = min(limit, call('ZCOUNT', bucket, busy_from, '+inf'))
  local first = tonumber(call('ZRANGEBYSCORE', bucket, busy_from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
  return limit, used, max(0, max(hold, g.learn) - now), first and min(first, now) + span - now or 0
end
local function standing(product)
  local limit = limit_of(product)
  if limit == 0 then return 0, 0, 0, 0 end
  withdrawn = withdrawn or away()
  limit = max(0, max(0, limit - deficit(product)) - (withdrawn[product] or 0))
  return standing_of(limit, key(product, 'e'), span_of(product), desk(product).hold)
end
local function ip_standing()
  withdrawn = withdrawn or away()
  return standing_of(max(0, rule.ip_requests - withdrawn.ip), IP, IP_SPAN, g.ip_hold)
end
local function ip_shut() return (g.ip_hold > now or g.probation == '1') and 1 or 0 end -- Held, or one call goes first.
local ops = {}

-- ticket product class flow weight patience tag|-1
function ops.ask(ticket, product, class, flow, weight, patience, shown)
  product, class, patience, shown = tonumber(product), tonumber(class), tonumber(patience), tonumber(shown)
  local step = max(1, floor(STEP / tonumber(weight)))
  cool(product)
  local d = desk(product)
  if stamp_of(ticket, product) then
    if not is_unused(ticket) then return 'R', span_of(product), PRODUCT, QUOTA, ip_shut(), standing(product) end
    if is_whole(ticket, product) then
      restamp(ticket, product, now + rule.flight)
      return 'G', 0, shown >= 0 and shown or d[class], 0, ip_shut(), standing(product)
    end
    take_out(ticket, product)
  end
  sweep(product, ticket, run_of(ticket))
  if class == INTERACTIVE then
    d.inter = now
    put(product, 'inter', now)
  end
  local w = waiting(ticket)
  local tag, turn, rank
  if w then
    tag, turn = w.tag, w.turn
    rank = call('ZRANK', queue(product, class), in_queue(turn, ticket))
  else
    tag = shown
    if tag < 0 then tag = max(d[class], tonumber(call('ZSCORE', key(product, 'v' .. class), flow) or 0)) end
    turn = g.turn
    rank = call('ZCOUNT', queue(product, class), '-inf', tag)
  end
  local ahead = ahead_of(product, class, rank)
  local at, scope, reason = slot_behind(product, class, ahead, rank)
  if ahead == 0 and at <= now then
    local has_waited = leave(ticket, true)
    grant(ticket, product, class, flow, tag, not has_waited and step or nil)
    return 'G', 0, tag, 0, ip_shut(), standing(product)
  end
  local due = at <= now and now + min(CLAIM_TIME, patience) or at
  local after = due - now
  local refused = (after > patience or after <= 0) and reason or nil
  if not w and not refused then
    if call('HLEN', TICKETS) >= rule.queue_max then
      refused = QUEUE_FULL
    elseif call('ZLEXCOUNT', FLOWS, '[' .. flow .. ':', '(' .. flow .. ';') >= rule.queue_per_customer_max then
      refused = CUSTOMER_QUEUE_FULL
    end
  end
  if refused then
    leave(ticket, false)
    return 'R', after, scope, refused, ip_shut(), standing(product)
  end
  if w then
    w.due, w.deadline = due, now + patience
  else
    w = { product = product, class = class, tag = tag, turn = turn, step = step, due = due, deadline = now + patience, flow = flow }
    call('ZADD', queue(product, class), tag, in_queue(turn, ticket))
    advance(product, class, flow, tag, step)
    call('ZADD', FLOWS, 0, in_flow(w, ticket))
    set('turn', turn + 1)
  end
  keep(ticket, w)
  call('ZADD', key(product, 'w'), w.due, ticket)
  call('ZADD', DEADLINES, w.deadline, ticket)
  return 'W', after, tag, 0, ip_shut(), standing(product)
end

-- ticket product
function ops.extend(ticket, product)
  product = tonumber(product)
  if not stamp_of(ticket, product) then return 0 end
  cool(product)
  if not is_unused(ticket) or not is_whole(ticket, product) then return 0 end
  restamp(ticket, product, now + rule.flight)
  return 1
end

-- ticket product is_429
function ops.arrived(ticket, product, is_429)
  product = tonumber(product)
  if g.probation == '1' and g.probe == ticket then
    if is_429 == '1' then
      set('probe_until', now + PROBE_LOOK)
    else
      set('probation', '0')
      set('probe', '')
    end
  end
  local stamp = stamp_of(ticket, product)
  if stamp and stamp > now then restamp(ticket, product, now) end
  if stamp then call('ZREM', UNUSED, ticket) end
  return 'ok', standing(product)
end

function ops.cancel(ticket) return leave(ticket, false) and 1 or 0 end

-- ticket product
function ops.refund(ticket, product)
  product = tonumber(product)
  if g.probation == '1' and g.probe == ticket then set('probe', '') end
  if not stamp_of(ticket, product) or not is_unused(ticket) then return 0 end
  take_out(ticket, product)
  return 1
end

-- product retry_after
function ops.limited(product, retry_after)
  product = tonumber(product)
  local d, has_limit = desk(product), limit_of(product) > 0
  local limit = max(1, limit_of(product))
  d.hold = max(d.hold, now + max(tonumber(retry_after), floor(rule.window * 3 / (2 * limit))))
  if has_limit then call('ZADD', key(product, 'e'), now, phantom()) end
  local is_second = d.last and now - d.last <= SECOND_WITHIN
  d.deficit = min(deficit(product) + (is_second and 1 or 0), max(0, limit - max(1, floor(limit / 4))))
  d.pad = min(PAD_MAX, extra_pad(product) + PAD_STEP)
  d.last = now
  put(product, 'hold', d.hold, 'last', now, 'deficit', d.deficit, 'pad', d.pad)
  return 'ok'
end

-- product|-1 span
function ops.hold(product, span)
  product, span = tonumber(product), tonumber(span)
  if product >= 0 then
    local d = desk(product)
    d.hold = max(d.hold, now + span)
    put(product, 'hold', d.hold)
  else
    set('ip_hold', max(g.ip_hold, now + span))
    set('probation', '1')
    set('probe', '')
  end
  return 'ok'
end

function ops.skew() return 'ok' end
