-- May this request be sent, and with which challenge?
-- KEYS  record, challenge, sends, refunds, cooldown, all, user, ip, suppressed, country, recent, index, wrong
-- Answers one line of words; a stored outcome or the notes are the rest of it.
--
-- Nobody owns a request that was given back: its owner is '-', and its lease ends when its next try is due.
local record, challenge, sends, refunds, cooldown, all, user, ip = unpack(KEYS, 1, 8)
local suppressed, country, recent, index, wrong = unpack(KEYS, 9, 13)
local now, owner, request, member, requested, not_after, life, lease, kids = unpack(ARGV, 1, 9)
local id, kid, digest, callers, purpose, wrong_max = unpack(ARGV, 10, 15)
local number_count, number_window, day_count, user_count, ip_count, all_count, wrong_count = unpack(ARGV, 16, 22)
local cooldown_ms, refunds_count, left_min, life_divisor, refusal_kept, kept_after = unpack(ARGV, 23, 28)
local record_kept, closed, notes, recipient, recent_max, held, starts_below = unpack(ARGV, 29, 35)

now = clock(now)
local stood = redis.call('MGET', record, cooldown, suppressed, country)

-- A grant. Of a new request it has the sends to its recipient within a day, of another one the notes.
local function granted(r, new)
  return table.concat({r.state == 'doubt' and 'doubt' or 'granted', r.attempt, ms(now), r.started, r.doubts, r.starts,
    new and used(sends, DAY, now) or 0, r.facts, new and '-' or r.notes}, ' ')
end

-- A request that was seen before.
local r = read(stood[1], now)
if r then
  if r.state == 'ended' then return 'ended ' .. (r.owner == owner and '1 ' or '0 ') .. r.rest end
  if held == '1' then return 'held' end
  unfold(r)
  -- Who asks again because its answer was lost gets the same once more.
  local admitted = string.match(r.facts, '^%S+ %S+ %S+ %S+ (%S+)')
  local new = r.owner == owner and r.state == 'sending' and r.started == admitted
  if r.owner ~= owner then
    if tonumber(r.lease) > now then return 'busy ' .. ms(r.lease - now) end
    if tonumber(r.starts) >= tonumber(starts_below) then
      return 'suspect ' .. r.starts .. ' ' .. ms(math.max(0, string.match(r.facts, '%S+$') - now))
    end
    r.starts = r.starts + 1
    if r.state == 'waiting' then
      r.state, r.attempt, r.started = 'sending', r.attempt + 1, ms(now)
    else
      doubt(r)
    end
  end
  r.owner, r.lease = owner, ms(now + lease)
  redis.call('SET', record, live(r), 'KEEPTTL')
  return granted(r, new)
end

if held == '1' then return 'held' end

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

-- Writes a new record, and under the request's name alone whose it is: a little longer, so that it is never missing.
local function write(line, kept)
  redis.call('SET', record, line, 'PX', kept)
  redis.call('SET', index, recipient, 'PX', ms(kept + kept_after))
end

-- Refusals. They are recorded, so that a repeat gets the same answer.
local function refuse(code, wait, provider_code)
  local error = '{"code":"' .. code .. '"'
  if provider_code then error = error .. ',"provider_code":' .. provider_code end
  if wait then error = error .. ',"retry_after":' .. ms(math.ceil(wait / 1000)) end
  local outcome = '{"status":"rejected","at":' .. ms(now) .. ',"purpose":"' .. purpose .. '","error":' .. error
    .. '},"notes":' .. notes .. '}'
  write(table.concat({'ended', owner, ms(now + refusal_kept), '-', outcome}, ' '), refusal_kept)
  remember_unsent(recent, request, recent_max, now)
  return 'ended 1 ' .. outcome
end

-- The provider's error number of a block that stands, and for how long it does if it ends.
local function blocked(block)
  local code, till = string.match(block or '', '^(%S+) (%S+)$')
  if code and (till == '-' or tonumber(till) > now) then return code, till ~= '-' and till - now end
end

if closed == '1' then return refuse('channel_disabled') end
if deadline - now < tonumber(left_min) then return refuse('expired') end
local code, block_left = blocked(stood[3])
-- What a person suppressed has no number of the provider's.
if code then return refuse('suppressed', block_left, code ~= '0' and code or nil) end
code, block_left = blocked(stood[4])
if code then return refuse('blocked', block_left, code) end
-- A code that nobody could have checked is not worth a message: so many wrong tries an hour end sends, too.
local longest = math.max(
  wait(sends, number_count, number_window, now), wait(sends, day_count, DAY, now), wait(refunds, refunds_count, DAY, now),
  wait(all, all_count, HOUR, now), wait(user, user_count, HOUR, now), wait(ip, ip_count, HOUR, now),
  wait(wrong, wrong_count, HOUR, now))
if longest > 0 then return refuse('rate_limited', longest) end
local cool_for = cooling(cooldown, stood[2], now)
if cool_for > 0 then return refuse('cooldown', cool_for) end

-- Granted: charge every limit once, then record it.
append(sends, request, math.max(number_window, DAY), now)
if all_count ~= '0' then append(all, member, HOUR, now) end
if user_count ~= '0' then append(user, member, HOUR, now) end
if ip_count ~= '0' then append(ip, member, HOUR, now) end
if cooldown_ms ~= '0' then
  redis.call('SET', cooldown, ms(now + cooldown_ms) .. ' ' .. request, 'PX', ms(math.max(cooldown_ms, deadline - now)))
end
if continued then
  id, kid, digest = c[1], c[2], c[3]
else
  if c[1] then redis.call('DEL', challenge) end
  redis.call('HSET', challenge, 'id', id, 'kid', kid, 'digest', digest, 'callers', callers,
    'expires', ms(expires), 'wrong', 0)
  redis.call('PEXPIRE', challenge, ms(life + kept_after))
end
r = {state = 'sending', owner = owner, till = ms(now + record_kept), receipt = '-', lease = ms(now + lease), attempt = 1,
  started = ms(now), doubts = 0, starts = 1, purpose = purpose, notes = notes,
  facts = table.concat({id, kid, digest, callers, ms(now), ms(expires), ms(deadline)}, ' ')}
write(live(r), record_kept)
return granted(r, true)
