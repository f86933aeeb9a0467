
-- What replicas tell each other: limit/notice.rs. The third part of the script, after members.lua. It reads and writes
-- nothing of the ledger's. Its two keys have a time to live, unlike the ledger's: should they be evicted, a replica that
-- starts later learns by calls of its own what the others know.
do
  local NOTICES, CLAIMS = P .. ':n', P .. ':c'
  local NOTICES_MAX, PAGE, CLAIMS_MAX = 4096, 256, 4096
  local LINGER = 60000

  -- The key lives at least this long from now.
  local function outlive(name, span)
    local least = floor(span / 1000) + LINGER
    if call('PTTL', name) < least then call('PEXPIRE', name, least) end
  end

  -- The place of the newest notice. Places are times that never repeat, so one that was given before everything was lost
  -- is below those that are given afterwards.
  local function newest() return tonumber(call('ZREVRANGE', NOTICES, 0, 0, 'WITHSCORES')[2] or 0) end

  -- from span text: kept as `place|until|span|from|text`, for this long and among the newest only.
  function ops.post(from, span, text)
    span = tonumber(span)
    local place = max(now, newest() + 1)
    call('ZADD', NOTICES, place, string.format('%.0f|%.0f|%.0f|%s|', place, now + span, span, from) .. text)
    call('ZREMRANGEBYRANK', NOTICES, 0, -NOTICES_MAX - 1)
    outlive(NOTICES, span)
    return 'ok'
  end

  -- from after: the place to go on after, whether there may be more, and in turn how long each notice of the others
  -- still lasts and its text.
  function ops.news(from, after)
    after = tonumber(after)
    local last = newest()
    -- Everything was lost, and the clock is behind what it was.
    if after > last then after = 0 end
    local page = call('ZRANGEBYSCORE', NOTICES, '(' .. string.format('%.0f', after), '+inf', 'LIMIT', 0, PAGE)
    local told = {}
    for _, entry in ipairs(page) do
      local place, until_, span, whose, text = string.match(entry, '^(%d+)|(%d+)|(%d+)|(%x+)|(.*)$')
      if place then
        after = tonumber(place)
        -- Never longer than was said, wherever the clock was set meanwhile.
        local left = min(tonumber(until_) - now, tonumber(span))
        if left > 0 and whose ~= from then
          told[#told + 1] = string.format('%.0f', left)
          told[#told + 1] = text
        end
      end
    end
    return after, #page == PAGE and 1 or 0, told
  end

  -- name span: 1 for one caller within the span.
  function ops.claim(name, span)
    span = tonumber(span)
    local until_ = tonumber(call('ZSCORE', CLAIMS, name) or 0)
    -- One that ends later than any of this span could was made under a clock that is not believed any more.
    if until_ > now and until_ <= now + span then return 0 end
    call('ZREMRANGEBYSCORE', CLAIMS, '-inf', now)
    call('ZADD', CLAIMS, now + span, name)
    -- Those that end first make room.
    call('ZREMRANGEBYRANK', CLAIMS, 0, -CLAIMS_MAX - 1)
    outlive(CLAIMS, span)
    return 1
  end
end
