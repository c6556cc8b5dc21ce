-- May this request be sent, and with which challenge?
-- KEYS  record, challenge, sends, refunds, cooldown, all, user, ip
-- Answers one line of words; a stored outcome is the rest of its line.
--
-- A record is a line of words too: state, owner, until, and then of a request in progress the rest of what is read
-- below, of one that has ended its outcome as JSON. Nobody owns a request that was given back: its owner is '-', and
-- its lease ends when its next try is due.
local record, challenge, sends, refunds, cooldown, all, user, ip = unpack(KEYS)
local now, owner, request, member, requested, not_after, life, lease, kids = unpack(ARGV, 1, 9)
local id, kid, digest, callers, purpose, wrong_max = unpack(ARGV, 10, 15)
local number_count, number_window, day_count, user_count, ip_count, all_count = unpack(ARGV, 16, 21)
local cooldown_ms, refunds_count, left_min, life_divisor, refusal_kept, kept_after = unpack(ARGV, 22, 27)
local record_kept, closed = unpack(ARGV, 28, 29)

now = clock(now)

-- A request that was seen before.
local seen = redis.call('GET', record)
if seen then
  local state, held_by, till, rest = string.match(seen, '^(%S+) (%S+) (%S+) (.+)$')
  if tonumber(till) > now then
    if state == 'ended' then return 'ended ' .. (held_by == owner and '1 ' or '0 ') .. rest end
    local held_till, attempt, facts = string.match(rest, '^(%S+) (%S+) (.+)$')
    if held_by ~= owner then
      local lease_left = tonumber(held_till) - now
      if lease_left > 0 then return 'busy ' .. ms(lease_left) end
      if state == 'waiting' then
        state, attempt = 'sending', ms(attempt + 1)
      else
        state = 'doubt'
      end
    end
    local taken = table.concat({state, owner, till, ms(now + lease), attempt, facts}, ' ')
    redis.call('SET', record, taken, 'KEEPTTL')
    return (state == 'doubt' and 'doubt ' or 'granted ') .. attempt .. ' ' .. ms(now) .. ' ' .. facts
  end
end

-- The challenge: the pending one while enough of its life is left, else a new one.
local c = redis.call('HMGET', challenge, 'id', 'kid', 'digest', 'callers', 'expires', 'used', 'wrong')
local continued = c[1] and not c[6] and tonumber(c[7]) < tonumber(wrong_max)
  and tonumber(c[5]) - now >= math.max(life / life_divisor, tonumber(left_min))
  and string.find(kids, ',' .. c[2] .. ',', 1, true)
  and c[4] == callers and (callers == '0' or c[3] == digest)
local expires = continued and tonumber(c[5]) or now + life
local asked = math.min(tonumber(requested) or now, now)
local deadline = math.min(asked + life, expires)
deadline = math.min(deadline, tonumber(not_after) or deadline)

-- Refusals. They are recorded, so that a repeat gets the same answer.
local function refuse(code, wait)
  local retry = wait and ',"retry_after":' .. ms(math.ceil(wait / 1000)) or ''
  local outcome = '{"status":"rejected","at":' .. ms(now) .. ',"purpose":"' .. purpose
    .. '","error":{"code":"' .. code .. '"' .. retry .. '}}'
  redis.call('SET', record, table.concat({'ended', owner, ms(now + refusal_kept), outcome}, ' '), 'PX', refusal_kept)
  return 'ended 1 ' .. outcome
end

if closed == '1' then return refuse('channel_disabled') end
if deadline - now < tonumber(left_min) then return refuse('expired') end
local longest = math.max(
  wait(sends, number_count, number_window, now), wait(sends, day_count, DAY, now), wait(refunds, refunds_count, DAY, now),
  wait(all, all_count, HOUR, now), wait(user, user_count, HOUR, now), wait(ip, ip_count, HOUR, now))
if longest > 0 then return refuse('rate_limited', longest) end
local cool_until = tonumber(redis.call('GET', cooldown) or 0)
if cool_until > now then return refuse('cooldown', cool_until - now) end

-- Granted: charge every limit once, then record it.
if number_count ~= '0' or day_count ~= '0' then append(sends, request, math.max(number_window, DAY), now) end
if all_count ~= '0' then append(all, member, HOUR, now) end
if user_count ~= '0' then append(user, member, HOUR, now) end
if ip_count ~= '0' then append(ip, member, HOUR, now) end
if cooldown_ms ~= '0' then redis.call('SET', cooldown, ms(now + cooldown_ms), 'PX', cooldown_ms) end
if continued then
  id, kid, digest = c[1], c[2], c[3]
else
  if c[1] then redis.call('DEL', challenge) end
  redis.call('HSET', challenge, 'id', id, 'kid', kid, 'digest', digest, 'callers', callers,
    'expires', ms(expires), 'wrong', 0)
  redis.call('PEXPIRE', challenge, ms(life + kept_after))
end
local facts = table.concat({id, kid, digest, callers, ms(now), ms(expires), ms(deadline)}, ' ')
local sending = table.concat({'sending', owner, ms(now + record_kept), ms(now + lease), '1', facts}, ' ')
redis.call('SET', record, sending, 'PX', record_kept)
return 'granted 1 ' .. ms(now) .. ' ' .. facts
