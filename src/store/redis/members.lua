-- The members of the shared ledger: limit/members.rs with history.rs, shares.rs and pools.rs. The
-- second part of the script, after ledger.lua, whose names it uses. All that is known of members is
-- one value under MEMBERS, which only a beat, another run of the server and the passing of `next`
-- make necessary; what every question needs of it is kept in G.

local JOINED, APART, LEAVING = 0, 1, 2
local MEMBERS_MAX, FACES_MAX, DEMAND_MAX, NUMBER_MAX = 1000, 4096, 1000000, 4294967295
local IP_PART, DEMAND_MINUTES = 4, 10
-- Nobody has heard of a name / an earlier run knew it / and it has replayed.
local NEW, EXPECTED_BACK, IS_BACK = 0, 1, 2

local SETTLED = rule.flight + SPAN
local LEASE_OVER = rule.silence + rule.call_timeout + SETTLED + rule.lease_life + SETTLED
local IP_LATER = max(0, rule.ip_window - rule.window)

-- limit/pools.rs: numbers by place, products from 1, the egress IP last.
local IP_PLACE = rule.products + 1
local function from_fn(number)
  local pools = {}
  for place = 1, IP_PLACE do pools[place] = number(place) end
  return pools
end
local function none() return from_fn(function() return 0 end) end
local function is_none(pools)
  for place = 1, IP_PLACE do
    if pools[place] > 0 then return false end
  end
  return true
end
local function of_ip(pools) return from_fn(function(place) return place == IP_PLACE and pools[place] or 0 end) end
local function minus(a, b) return from_fn(function(place) return max(0, a[place] - b[place]) end) end
local function or_more(a, b) return from_fn(function(place) return max(a[place], b[place]) end) end
local function or_less(a, b) return from_fn(function(place) return min(a[place], b[place]) end) end
local function add(sum, more)
  for place = 1, IP_PLACE do sum[place] = min(NUMBER_MAX, sum[place] + more[place]) end
end
local function read_pools(text)
  local numbers = {}
  for n in string.gmatch(text, '%d+') do numbers[#numbers + 1] = tonumber(n) end
  return from_fn(function(place) return numbers[place] or 0 end)
end

local function leasable()
  return from_fn(function(place)
    local limit = place == IP_PLACE and rule.ip_requests or limit_of(place - 1)
    return floor(limit * min(rule.share_percent, 100) / (100 * (place == IP_PLACE and IP_PART or 1)))
  end)
end

-- The order of bytes, whatever the server's locale.
local function is_before(a, b)
  for at = 1, min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- limit/shares.rs
local function share(whole, demands, place)
  local total, is_idle = 0, true
  for _, demand in ipairs(demands) do is_idle = is_idle and demand == 0 end
  local function demand(at) return is_idle and 1 or min(demands[at], DEMAND_MAX) end
  for at = 1, #demands do total = total + demand(at) end
  if total == 0 then return 0 end
  local remainder, given, ahead = whole * demand(place) % total, 0, 0
  for at = 1, #demands do
    local product = whole * demand(at)
    given = given + floor(product / total)
    local its = product % total
    if its > remainder or (its == remainder and at < place) then ahead = ahead + 1 end
  end
  return floor(whole * demand(place) / total) + (ahead < whole - given and 1 or 0)
end

-- All members `all`, in the order of their names; what is `kept`; the history, that is `run`,
-- `learning`, `ends`, `open`, `peers`, `faces`, `unclear` and `reported`, each until when; and the
-- view, that is `away`, `cut` until when, `taken` and `next`.
local M
local has_given_up = false

local function nobody()
  return {
    run = '', all = {}, kept = {}, learning = false, ends = { 0, 0 }, open = false, peers = 0, faces = {},
    unclear = none(), unclear_until = 0, reported = none(), reported_until = 0,
    away = none(), cut = none(), cut_until = 0, taken = none(), next = 0,
  }
end

-- limit/history.rs
local function count(least)
  local n = 0
  for _, face in pairs(M.faces) do
    if face >= least then n = n + 1 end
  end
  return n
end
local function missing() return max(0, M.peers - count(IS_BACK)) end
local function unseen() return max(0, M.peers - count(EXPECTED_BACK)) end
local function learning_until() return M.ends[missing() > 0 and 2 or 1] end

local function close(unclear, unclear_until)
  M.open, M.unclear, M.unclear_until, M.peers, M.faces = false, unclear, unclear_until, 0, {}
end

local function settle(is_everybody_whole)
  if M.learning then
    local at = learning_until()
    if M.peers > 0 and missing() == 0 and is_everybody_whole then
      M.learning, M.ends = false, { now, now }
    elseif now >= at then
      M.learning, has_given_up, M.ends = false, true, { at, at }
    end
  end
  if M.open and not M.learning and missing() == 0 then close(or_less(M.unclear, M.reported), M.reported_until) end
  if (M.open or not is_none(M.unclear)) and now >= M.unclear_until then
    local until_ = M.unclear_until + IP_LATER
    close(M.open and now < until_ and of_ip(M.unclear) or none(), until_)
  end
end

local function first_seen(beat)
  if not M.open or M.faces[beat.member] then return end
  local faces = 0
  for _ in pairs(M.faces) do faces = faces + 1 end
  if faces >= FACES_MAX then return end
  M.faces[beat.member] = beat.peers > 0 and EXPECTED_BACK or NEW
  M.peers = max(M.peers, beat.peers)
  M.reported, M.reported_until = or_more(M.reported, beat.away), max(M.reported_until, now + beat.away_for)
end

-- limit/members.rs
local function is_alive(m) return now < m.alive_until and m.stance ~= LEAVING end
local function is_off(m) return m.stance == APART or not m.has_contact or now >= m.alive_until end
local function is_cut_off(m) return not is_none(m.own) and is_off(m) end
local function is_in_standing(m) return m.stance == JOINED and not is_off(m) end

-- The place of a name, or where it would be, and who is there.
local function find(name)
  for place, m in ipairs(M.all) do
    if m.name == name then return place, m end
    if is_before(name, m.name) then return place, nil end
  end
  return #M.all + 1, nil
end

local function knows(beat)
  local _, known = find(beat.member)
  if not known then return #M.all < MEMBERS_MAX end
  if known.run == beat.run then return beat.number > known.number end
  return is_before(known.run, beat.run) or not is_alive(known)
end

local function retain(list, is_kept)
  local kept = {}
  for _, each in ipairs(list) do
    if is_kept(each) then kept[#kept + 1] = each end
  end
  return kept
end

local function keep_one(own, until_)
  if not is_none(own) then M.kept[#M.kept + 1] = { own = own, until_ = until_ } end
end
local function keep(own, until_)
  keep_one(minus(own, of_ip(own)), until_)
  keep_one(of_ip(own), until_ + IP_LATER)
end

local function look()
  M.all = retain(M.all, function(m)
    m.forget_at = m.heard + (is_none(m.own) and SETTLED or LEASE_OVER)
    if now >= m.forget_at then keep_one(of_ip(m.own), m.forget_at + IP_LATER) end
    return now < m.forget_at
  end)
  M.kept = retain(M.kept, function(kept) return now < kept.until_ end)
  local is_everybody_whole = true
  for _, m in ipairs(M.all) do
    is_everybody_whole = is_everybody_whole and m.has_replayed and now >= m.is_whole_from
  end
  settle(is_everybody_whole)

  local away, cut, taken, unmet, until_ = none(), none(), none(), none(), now
  local soonest
  local function next_at(at) soonest = min(soonest or at, at) end
  if M.learning then next_at(learning_until()) end
  if M.open or not is_none(M.unclear) then next_at(M.unclear_until) end
  for _, m in ipairs(M.all) do
    next_at(m.forget_at)
    if M.learning and now < m.is_whole_from then next_at(m.is_whole_from) end
    if not is_none(m.own) then
      local is_cut = is_off(m)
      if is_cut then until_ = max(until_, m.forget_at) else next_at(m.alive_until) end
      if not m.has_contact then
        add(unmet, m.own)
      else
        add(taken, m.own)
        if is_cut then
          add(away, m.own)
          add(cut, m.own)
        else
          away[IP_PLACE] = min(NUMBER_MAX, away[IP_PLACE] + m.own[IP_PLACE])
        end
      end
    end
  end
  for _, kept in ipairs(M.kept) do
    next_at(kept.until_)
    until_ = max(until_, kept.until_)
    add(away, kept.own)
    add(cut, kept.own)
    add(taken, kept.own)
  end
  if not is_none(M.unclear) then until_ = max(until_, M.unclear_until) end
  local rest = or_more(M.unclear, unmet)
  add(away, rest)
  add(cut, rest)
  add(taken, rest)
  M.away, M.cut, M.cut_until, M.taken, M.next = away, cut, until_, taken, soonest or 0
end

local function peers() return min(NUMBER_MAX, #M.all + unseen()) end

local function begin()
  local before, known = M, peers()
  M, has_given_up = nobody(), false
  M.run, M.learning, M.open, M.peers = RUN, true, true, known
  M.ends = { now + SPAN, now + SETTLED }
  M.unclear, M.unclear_until = leasable(), now + LEASE_OVER
  M.reported, M.reported_until = before.cut, before.cut_until
end

local function load_members()
  if M then return end
  local packed = call('GET', MEMBERS)
  M = packed and cmsgpack.unpack(packed) or nobody()
  if M.next > 0 and now >= M.next then look() end
  -- A server that drops keys may have dropped one of the two alone.
  if M.run ~= RUN or g.run ~= RUN then
    begin()
    look()
  end
end

local function replace(beat)
  local place, ended = find(beat.member)
  if not ended or ended.run == beat.run then return end
  table.remove(M.all, place)
  if is_before(beat.run, ended.run) then
    keep(ended.own, ended.forget_at)
  elseif is_cut_off(ended) then
    keep(ended.own, now + SETTLED)
  end
end

local function meet(beat)
  local place, known = find(beat.member)
  if known then return known end
  first_seen(beat)
  local m = {
    name = beat.member, run = beat.run, number = 0, heard = now, brought = beat.lease,
    has_contact = is_none(beat.lease), alive_until = now + rule.silence, stance = beat.stance, own = beat.lease,
    demand = beat.demand, is_whole_from = now, has_replayed = false, forget_at = now,
  }
  table.insert(M.all, place, m)
  return m
end

local function hear(m, beat)
  local kept
  if m.number > 0 and beat.acked == m.number then
    m.has_contact, m.alive_until = true, m.heard + rule.silence
    if m.brought and M.open then M.unclear = minus(M.unclear, or_less(m.brought, beat.lease)) end
    m.brought = nil
    if beat.replay then
      m.has_replayed = true
      if M.faces[m.name] == EXPECTED_BACK then M.faces[m.name] = IS_BACK end
    end
  end
  if beat.stance == LEAVING then
    if is_cut_off(m) and not beat.replay then kept = m.own end
    m.stance, m.own = LEAVING, none()
  elseif beat.stance == JOINED and m.stance == APART and not beat.replay then
    m.own = beat.lease
  else
    m.stance, m.own = beat.stance, beat.lease
  end
  m.number, m.heard = beat.number, now
  m.demand = from_fn(function(place) return min(beat.demand[place], DEMAND_MAX) end)
  m.is_whole_from = max(0, now + SETTLED - beat.uptime)
  if kept then keep(kept, now + SETTLED) end
end

-- How many requests somebody with this demand could send in ten minutes of this lease.
local function ip_demand(lease, demand)
  local of_limits, within = 0, 0
  for place = 1, rule.products do
    if limit_of(place - 1) > 0 then
      of_limits = of_limits + demand[place]
      within = within + min(demand[place], lease[place] * DEMAND_MINUTES)
    end
  end
  return max(0, demand[IP_PLACE] - of_limits) + within
end

local function lease_of(m, ip_busy)
  if not is_in_standing(m) then return m.own end
  local sharers, its_place = retain(M.all, is_in_standing), 0
  for at, sharer in ipairs(sharers) do
    if sharer == m then its_place = at end
  end
  local all, lease = leasable(), {}
  local function target(place, most, demand_of)
    local taken, theirs, demands = M.taken[place], 0, {}
    for at, sharer in ipairs(sharers) do
      theirs = theirs + sharer.own[place]
      demands[at] = demand_of(sharer)
    end
    local whole = max(0, all[place] - max(0, taken - theirs))
    return min(share(whole, demands, its_place), m.own[place] + min(most, max(0, all[place] - taken)))
  end
  for place = 1, rule.products do
    local function demand_of(sharer) return sharer.demand[place] end
    lease[place] = all[place] > 0 and target(place, NUMBER_MAX, demand_of) or 0
  end
  local function demand_of(sharer) return ip_demand(sharer == m and lease or sharer.own, sharer.demand) end
  lease[IP_PLACE] = target(IP_PLACE, max(0, rule.ip_requests - ip_busy - M.away[IP_PLACE]), demand_of)
  return lease
end

-- Writes down what members are, and what every question needs to know of them.
local function save_members()
  local alive, withdrawn_now = {}, {}
  for _, m in ipairs(M.all) do
    alive[m.run] = max(alive[m.run] or 0, m.stance ~= LEAVING and m.alive_until or 0)
  end
  call('DEL', ALIVE)
  for run, until_ in pairs(alive) do call('HSET', ALIVE, run, until_) end
  for place = 1, IP_PLACE do
    if M.away[place] > 0 then withdrawn_now[#withdrawn_now + 1] = string.format('%d=%.0f', place - 1, M.away[place]) end
  end
  call('SET', MEMBERS, cmsgpack.pack(M))
  set('run', RUN)
  set('learn', learning_until())
  set('away', table.concat(withdrawn_now, ' '))
  set('next', M.next)
  set('hope', M.learning and M.peers > 0 and '1' or '0')
  set('census', #M.all > 0 and not M.learning and '1' or '0')
end

-- limit/ledger.rs
local function spend_ip_blindly()
  local spent, since, stamps = floor(rule.ip_requests / 4) * 3, now - SPAN, {}
  local function spend()
    if #stamps > 0 then call('ZADD', IP, unpack(stamps)) end
    stamps = {}
  end
  for nth = 0, spent - 1 do
    local stamp = since - floor(rule.ip_window * nth / spent)
    if stamp + IP_SPAN > now then
      stamps[#stamps + 1] = stamp
      stamps[#stamps + 1] = string.format('%032x', g.phantom)
      g.phantom = g.phantom + 1
    end
    if #stamps >= 200 then spend() end
  end
  spend()
  set('phantom', g.phantom)
end

local function learn_from_members()
  if has_given_up then spend_ip_blindly() end
  has_given_up = false
  save_members()
end

function is_dead(run)
  if g.census ~= '1' then return false end
  local until_ = call('HGET', ALIVE, run)
  return not until_ or now >= tonumber(until_)
end

local function enter()
  if g.run == RUN and (g.next == 0 or now < g.next) then return end
  load_members()
  learn_from_members()
end

local function restore(replay)
  local products = {}
  for ticket, product, class, age in string.gmatch(replay, '(%x+):(%d+):(%d):(-?%d+)') do
    product, class, age = tonumber(product), tonumber(class), tonumber(age)
    local stamp = age < 0 and now + rule.flight or now - age
    local known = stamp_of(ticket, product)
    take_out(ticket, product)
    put_in(ticket, product, class, max(stamp, known or stamp), true)
    products[product] = true
  end
  for product in pairs(products) do cool(product) end
end

local function claimable(run)
  local wakes = {}
  for product = 0, rule.products - 1 do
    for class = INTERACTIVE, BATCH do
      if length(product, class) > 0 then
        cool(product)
        sweep(product, run .. '0000000000000000', run)
        local first = head(product, class)
        local w = first and waiting(first)
        if w and run_of(first) == run and w.due > now then
          local ahead = ahead_of(product, class, 0)
          if ahead == 0 and slot_behind(product, class, ahead, 0) <= now then wakes[#wakes + 1] = first end
        end
      end
    end
  end
  return table.concat(wakes, ' ')
end

-- For every product and last the egress IP: limit, used, time held, time to the next permit, and how
-- long its own hold still lasts.
local function standings()
  local numbers = {}
  local function say(hold, ...)
    for _, n in ipairs({ ... }) do numbers[#numbers + 1] = string.format('%.0f', n) end
    numbers[#numbers + 1] = string.format('%.0f', max(0, hold - now))
  end
  for product = 0, rule.products - 1 do say(desk(product).hold, standing(product)) end
  say(g.ip_hold, ip_standing())
  return table.concat(numbers, ' ')
end

-- member run number acked stance uptime peers away_for lease demand away replay|-
-- Pools are lists of numbers by place; a replay is a list of ticket:product:class:age, age -1 while in
-- flight. Answers is_known lease peers away away_for wants_replay learns_for wakes standings, where
-- lists are texts; what is not known of an unknown is 0 or empty.
function ops.beat(member, run, number, acked, stance, uptime, their_peers, away_for, lease, demand, away_told, replay)
  local beat = {
    member = member, run = run, number = tonumber(number), acked = tonumber(acked), stance = tonumber(stance),
    uptime = tonumber(uptime), peers = tonumber(their_peers), away_for = tonumber(away_for),
    lease = read_pools(lease), demand = read_pools(demand), away = read_pools(away_told),
    replay = replay ~= '-' and replay or nil,
  }
  load_members()
  if not knows(beat) then
    learn_from_members()
    return 0, '', 0, '', 0, 0, 0, '', standings()
  end
  if beat.replay then restore(beat.replay) end
  local ip_busy = call('ZCOUNT', IP, '(' .. string.format('%.0f', now - IP_SPAN), '+inf')
  replace(beat)
  local m = meet(beat)
  hear(m, beat)
  look()
  local granted = lease_of(m, ip_busy)
  local own = or_more(m.own, granted)
  if not is_none(minus(own, m.own)) then
    m.own = own
    look()
  end
  learn_from_members()
  return 1, table.concat(granted, ' '), peers(), table.concat(M.cut, ' '), max(0, M.cut_until - now),
    m.has_replayed and 0 or 1, M.learning and max(0, learning_until() - now) or 0, claimable(run), standings()
end
