-- Answers that replicas pass to each other, and reads that one of them makes for all. A script of its own, on a connection
-- of its own: the quota never waits for it. It never sees what it passes: names are digests, answers are sealed.
--
-- KEYS[1]  prefix, whose hash tag keeps all keys in one slot         ARGV  1 operation  2.. its arguments
--
-- x:g        which life of this store it is      x:i   a number that grows with each change
-- x:e:CONN   the last change of a connection     x:f:NAME  who is reading now      x:k:NAME  what was answered
-- x:z, x:s, x:n   ends, sizes and the sum of the sizes of what is kept

local P, OP, call = KEYS[1] .. ':x:', ARGV[1], redis.call
local ENDS, SIZES, SUM = P .. 'z', P .. 's', P .. 'n'
-- What is told to those who wait stays for this long, in milliseconds.
local TOLD = 3000
-- How long a change is remembered, in milliseconds: longer than anything is kept.
local CHANGE_KEPT = 90000000
local ROOM_STEPS = 1000

local t = call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local ops = {}

local function text(n) return string.format('%.0f', n) end

local function changed(conn)
  local n = text(call('INCR', P .. 'i'))
  call('SET', P .. 'e:' .. conn, n, 'PX', CHANGE_KEPT)
  return n
end

-- Nothing that was asked before a change, or in another life of this store, has the epoch of what is asked after it.
local function epoch(conn)
  local life = call('GET', P .. 'g')
  if not life then
    life = text(now) .. '-' .. t[2]
    call('SET', P .. 'g', life)
  end
  -- A change that is forgotten counts as a change: what was answered before it must not come back.
  local change = call('GET', P .. 'e:' .. conn)
  if not change then change = changed(conn) end
  return life .. '.' .. change
end

local function drop(name)
  local size = call('HGET', SIZES, name)
  if size then
    call('HDEL', SIZES, name)
    call('ZREM', ENDS, name)
    call('DECRBY', SUM, size)
  end
end

-- Makes room for `size` more: what is over first, then what ends first.
local function room(size, most)
  for _, name in ipairs(call('ZRANGEBYSCORE', ENDS, '-inf', now, 'LIMIT', 0, ROOM_STEPS)) do drop(name) end
  for _ = 1, ROOM_STEPS do
    if tonumber(call('GET', SUM) or 0) + size <= most then return true end
    local first = call('ZRANGE', ENDS, 0, 0)[1]
    if not first then
      call('DEL', SUM)
      return size <= most
    end
    call('DEL', P .. 'k:' .. first)
    drop(first)
  end
  return false
end

local function held_by(flight, me) return call('HGET', flight, 'm') == me end

-- have: the epoch of what the caller keeps itself. looks, claims: '1' or '0'. follows: whose reading the caller awaits.
--   same                              what it has holds
--   kept|told epoch age left answer   take this
--   wait epoch who stage              somebody is reading it
--   lead epoch                        read it, for all
--   alone epoch                       read it by yourself
function ops.ask(name, conn, me, lease, stage, have, looks, claims, follows)
  local e = epoch(conn)
  if have ~= '' and have == e then return { 'same' } end
  if looks ~= '1' then return { 'alone', e } end
  local kept, flight = P .. 'k:' .. name, P .. 'f:' .. name
  local k = call('HMGET', kept, 'e', 't', 'f', 'u', 'b')
  if k[1] == e and k[5] and (k[4] == '1' or (follows ~= '' and k[3] == follows)) then
    return { k[4] == '1' and 'kept' or 'told', e, text(math.max(0, now - tonumber(k[2]))), call('PTTL', kept), k[5] }
  end
  local f = call('HMGET', flight, 'm', 'e', 's')
  if f[1] and f[2] == e then
    call('HSET', flight, 'w', 1)
    return { 'wait', e, f[1], f[3] }
  end
  -- It ended with nothing that could be passed on: nobody queues for the next failure.
  if follows ~= '' and k[3] == follows and k[4] == 'x' then return { 'alone', e } end
  if claims ~= '1' then return { 'alone', e } end
  call('DEL', flight)
  call('HSET', flight, 'm', me, 'e', e, 's', stage)
  call('PEXPIRE', flight, lease)
  return { 'lead', e }
end

-- The reader is alive, and so far. 0: it is not the reader any more.
function ops.hold(name, me, lease, stage)
  local flight = P .. 'f:' .. name
  if not held_by(flight, me) then return { 0 } end
  call('HSET', flight, 's', stage)
  call('PEXPIRE', flight, lease)
  return { 1 }
end

-- The reader has an answer. 1: somebody waits for it.
function ops.done(name, me)
  local flight = P .. 'f:' .. name
  if not held_by(flight, me) then return { 0 } end
  if call('HGET', flight, 'w') then return { 1 } end
  call('DEL', flight)
  return { 0 }
end

-- The reader has nothing to pass on. was_sent '1': Finch was asked, so who waits asks by itself; else one of them reads.
function ops.fail(name, me, was_sent)
  local flight, kept = P .. 'f:' .. name, P .. 'k:' .. name
  if not held_by(flight, me) then return { 0 } end
  if was_sent == '1' and call('HGET', flight, 'w') then
    call('DEL', kept)
    drop(name)
    call('HSET', kept, 'f', me, 'u', 'x')
    call('PEXPIRE', kept, TOLD)
  end
  call('DEL', flight)
  return { 1 }
end

-- An answer that was asked for in this epoch: kept for all (use '1'), or for those who wait for `me` alone.
function ops.put(name, conn, me, e, span, use, most, answer)
  local flight, kept = P .. 'f:' .. name, P .. 'k:' .. name
  local is_reader = held_by(flight, me)
  if is_reader then call('DEL', flight) end
  if e ~= epoch(conn) or (use ~= '1' and not is_reader) then return { 0 } end
  if use ~= '1' then span = TOLD end
  call('DEL', kept)
  drop(name)
  if not room(#answer, tonumber(most)) then return { 0 } end
  call('HSET', kept, 'e', e, 't', text(now), 'f', me, 'u', use, 'b', answer)
  call('PEXPIRE', kept, span)
  call('HSET', SIZES, name, #answer)
  call('ZADD', ENDS, now + tonumber(span), name)
  call('INCRBY', SUM, #answer)
  return { 1 }
end

-- A connection's data has changed, or may have.
function ops.move(conn, span)
  changed(conn)
  return { 1 }
end

-- Everybody's may have.
function ops.move_all()
  call('SET', P .. 'g', text(now) .. '-' .. call('INCR', P .. 'i'))
  return { 1 }
end

return ops[OP](unpack(ARGV, 2))
