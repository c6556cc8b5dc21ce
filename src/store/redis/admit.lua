-- May this request be sent, and with which challenge?
-- KEYS  record, challenge, sends, posts, cooldown, all, user, ip
-- Answers one line of words; a stored outcome is the rest of its line.
local record, challenge, sends, posts, cooldown, all, user, ip = unpack(KEYS)
local now, owner, request, member, requested, not_after, life, lease, kids = unpack(ARGV, 1, 9)
local id, kid, digest, callers, purpose, wrong_max = unpack(ARGV, 10, 15)
local number_count, number_window, day_count, user_count, ip_count, all_count = unpack(ARGV, 16, 21)
local cooldown_ms, posts_count, left_min, life_divisor, refusal_kept, kept_after = unpack(ARGV, 22, 27)

local HOUR, DAY = 3600000, 86400000
now = tonumber(now)
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local function ms(n) return string.format('%.0f', n) end

local function grant(word, attempt, c_id, c_kid, c_digest, c_callers, admitted, expires, deadline)
  return table.concat({word, attempt, c_id, c_kid, c_digest, c_callers, admitted, expires, deadline, ms(now)}, ' ')
end

-- A request that was seen before.
local r = redis.call('HMGET', record, 'state', 'owner', 'lease', 'attempt', 'outcome',
  'challenge', 'kid', 'digest', 'callers', 'admitted', 'expires', 'deadline', 'until')
if r[1] and tonumber(r[13]) > now then
  local state, held_by = r[1], r[2]
  if r[5] then return 'ended ' .. (held_by == owner and '1' or '0') .. ' ' .. r[5] end
  local attempt = tonumber(r[4])
  if held_by ~= owner then
    local lease_left = tonumber(r[3]) - now
    if held_by ~= '' and lease_left > 0 then return 'busy ' .. ms(lease_left) end
    if state == 'waiting' then
      state, attempt = 'sending', attempt + 1
    else
      state = 'doubt'
    end
    redis.call('HSET', record, 'state', state, 'owner', owner, 'lease', ms(now + lease), 'attempt', attempt,
      't0', ms(now))
  end
  return grant(state == 'doubt' and 'doubt' or 'granted', attempt, r[6], r[7], r[8], r[9], r[10],
    r[11], r[12])
end

-- The challenge: the pending one while enough of its life is left, else a new one.
local c = redis.call('HMGET', challenge, 'id', 'kid', 'digest', 'callers', 'expires', 'used', 'wrong')
local continued = c[1] and not c[6] and tonumber(c[7]) < tonumber(wrong_max)
  and tonumber(c[5]) - now >= life / life_divisor
  and string.find(kids, ',' .. c[2] .. ',', 1, true)
  and c[4] == callers and (callers == '0' or c[3] == digest)
local expires = continued and tonumber(c[5]) or now + life
local asked = tonumber(requested) > 0 and math.min(tonumber(requested), now) or now
local deadline = math.min(asked + life, expires)
if tonumber(not_after) > 0 then deadline = math.min(deadline, tonumber(not_after)) end

-- Refusals. They are recorded, so that a repeat gets the same answer.
local function refuse(code, wait)
  local retry = wait and ',"retry_after":' .. ms(math.ceil(wait / 1000)) or ''
  local outcome = '{"status":"rejected","at":' .. ms(now) .. ',"purpose":"' .. purpose
    .. '","error":{"code":"' .. code .. '"' .. retry .. '}}'
  redis.call('DEL', record)
  redis.call('HSET', record, 'state', 'rejected', 'owner', owner, 'outcome', outcome, 'until', ms(now + refusal_kept))
  redis.call('PEXPIRE', record, refusal_kept)
  return 'ended 1 ' .. outcome
end
local function wait(key, count, window)
  count = tonumber(count)
  if count == 0 then return 0 end
  local blocking = redis.call('ZREVRANGE', key, count - 1, count - 1, 'WITHSCORES')
  if not blocking[2] then return 0 end
  return math.max(0, tonumber(blocking[2]) + window - now)
end

if deadline - now < tonumber(left_min) then return refuse('expired') end
local longest = math.max(
  wait(sends, number_count, number_window), wait(sends, day_count, DAY), wait(posts, posts_count, DAY),
  wait(all, all_count, HOUR), wait(user, user_count, HOUR), wait(ip, ip_count, HOUR))
if longest > 0 then return refuse('rate_limited', longest) end
local cool_until = tonumber(redis.call('GET', cooldown) or 0)
if cool_until > now then return refuse('cooldown', cool_until - now) end

-- Granted: charge every limit once, then record it.
local function charge(key, name, count, window)
  if tonumber(count) == 0 then return end
  redis.call('ZADD', key, ms(now), name)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', ms(now - window))
  redis.call('PEXPIRE', key, ms(window))
end
charge(sends, request, number_count + day_count, math.max(number_window, DAY))
charge(posts, request, posts_count, DAY)
charge(all, member, all_count, HOUR)
charge(user, member, user_count, HOUR)
charge(ip, member, ip_count, HOUR)
if tonumber(cooldown_ms) > 0 then
  redis.call('SET', cooldown, ms(now + cooldown_ms), 'PX', cooldown_ms)
end
if continued then
  id, kid, digest = c[1], c[2], c[3]
else
  redis.call('DEL', challenge)
  redis.call('HSET', challenge, 'id', id, 'kid', kid, 'digest', digest, 'callers', callers,
    'expires', ms(expires), 'wrong', 0)
  redis.call('PEXPIRE', challenge, ms(life + kept_after))
end
redis.call('DEL', record)
redis.call('HSET', record, 'state', 'sending', 'owner', owner, 'lease', ms(now + lease), 'attempt', 1, 't0', ms(now),
  'challenge', id, 'kid', kid, 'digest', digest, 'callers', callers, 'admitted', ms(now), 'expires', ms(expires),
  'deadline', ms(deadline), 'until', ms(deadline + kept_after))
redis.call('PEXPIRE', record, ms(deadline - now + kept_after))
return grant('granted', 1, id, kid, digest, callers, ms(now), ms(expires), ms(deadline))
