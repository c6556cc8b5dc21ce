-- Precedes every script. docs/architecture.md describes all keys and the words of a record.
-- `now` is 0 for the server's time, or the time that a test sets. Times and durations are in milliseconds. A recipient is
-- named by its keyed digest. An error of Lua, such as a failed `assert`, and a key of the wrong Redis type are answered as
-- unreadable stored data.
--
-- Stored names are older than the glossary and stay. Of a challenge's fields, `wrong` counts its checks, the right one
-- included, `name` is the verification SID, and `open:<check id>` marks an unfinished provider check. The key `wrong`
-- counts wrong attempts.
local HOUR, DAY = 3600000, 86400000

-- The key of the last command: the answer to an error names it. So a value is read right after its GET.
local touched
local server_call = redis.call
local redis = {pcall = redis.pcall, error_reply = redis.error_reply, call = function(...)
  touched = select(2, ...)
  return server_call(...)
end}

-- The server's time, or the one that a test sets.
local function clock(test_time)
  if test_time ~= '0' then return tonumber(test_time) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- A stored number. Lua's own conversion takes more, such as `nan`.
local function number(text) return assert(tonumber(string.match(text or '', '^%d+$')), 'a number cannot be read') end

-- A number as decimal digits. Lua's own conversion writes large numbers with an exponent.
local function decimal(number) return string.format('%.0f', number) end

-- The score of an event, which is its time.
local function time_of(score)
  local time = tonumber(score)
  assert(time < math.huge, 'a time cannot be read')
  return time
end

-- The time until a log of events allows one more. A limit is reached while its count-th newest event is inside the window.
local function wait(log, count, window, now)
  if count == '0' then return 0 end
  local blocking = redis.call('ZREVRANGE', log, count - 1, count - 1, 'WITHSCORES')
  if not blocking[2] then return 0 end
  return math.max(0, time_of(blocking[2]) + window - now)
end

-- Adds an event to a log, and drops those that have left the window. A member counts once.
local function append(log, member, window, now)
  redis.call('ZADD', log, decimal(now), member)
  redis.call('ZREMRANGEBYSCORE', log, '-inf', decimal(now - window))
  redis.call('PEXPIRE', log, decimal(window))
end

-- The number of events inside the window.
local function used(log, window, now)
  return redis.call('ZCOUNT', log, '(' .. decimal(now - window), '+inf')
end

-- Reads the record of a request, unless it has expired. Of a completed request (state `ended`) `rest` is the outcome.
-- Of one in progress it is the words that `read_progress` splits.
local function read_record(line, now)
  if not line then return nil end
  local r = {}
  r.state, r.owner, r.kept_until, r.receipt, r.rest = string.match(line, '^(%l+) (%S+) (%d+) (%S+) (.+)$')
  local is_known = r.state == 'ended' or r.state == 'sending' or r.state == 'waiting' or r.state == 'doubt'
  local receipt_is_known = r.receipt == '-' or string.find(r.receipt or '', '^[^,]+,%d+,[^,]+,%d,[^,]+,%d+')
  assert(is_known and receipt_is_known, 'a record cannot be read')
  return tonumber(r.kept_until) > now and r or nil
end

-- Splits the rest of a record in progress. `facts` are fixed at admission: challenge id, key id, digest, whether the
-- caller chose the code (0 or 1), admission, expiry, deadline.
local function read_progress(r)
  r.lease_until, r.attempt, r.started_at, r.attempts_in_doubt, r.unfinished_leases, r.facts, r.purpose, r.history =
    string.match(r.rest, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%S+ %S+ %S+ %S+ %d+ %d+ %d+) (%S+) (.+)$')
  assert(r.lease_until, 'a record in progress cannot be read')
end

local function progress_line(r)
  return table.concat({r.state, r.owner, r.kept_until, r.receipt, r.lease_until, r.attempt, r.started_at,
    r.attempts_in_doubt, r.unfinished_leases, r.facts, r.purpose, r.history}, ' ')
end

local function deadline_of(r) return tonumber(string.match(r.facts, '%S+$')) end

-- The recorded receipt, if there is one. In the record it is one word with commas:
-- message id, rank, status, published (0 or 1), provider code, time, suppression strength.
-- A status of a higher rank replaces one of a lower rank. `record_receipt.lua` explains the strength.
local function receipt_of(r) return string.match(r.receipt, '^([^,]+),(%d+),([^,]+),(%d)') end

-- Is the handler's count of attempts up to date? In state `sending` the record already counts the attempt about to be made.
-- A handler that has not made it knows one fewer; that is accepted unless `was_made`.
local function knows_last_attempt(r, attempts_made, was_made)
  return r.attempt == attempts_made
    or not was_made and r.state == 'sending' and tonumber(r.attempt) - 1 == tonumber(attempts_made)
end

-- Marks the current attempt as in doubt, and counts it once.
local function mark_in_doubt(r)
  if r.state ~= 'doubt' then r.state, r.attempts_in_doubt = 'doubt', r.attempts_in_doubt + 1 end
end

-- Of a request in progress: how many messages it may have, the earliest time of the first, and the latest time of the last.
local function possible_messages(r, now)
  local count = r.attempts_in_doubt + (r.state == 'sending' and 1 or 0)
  local only_current_attempt = count == 1 and r.state ~= 'waiting'
  local from = only_current_attempt and r.started_at or string.match(r.facts, '^%S+ %S+ %S+ %S+ (%S+)')
  return count, tonumber(from), math.min(now, deadline_of(r))
end

-- The code of a request in progress: challenge id, key id, digest, caller's code, purpose.
local function code_of(r) return string.match(r.facts, '^%S+ %S+ %S+ %S+') .. ' ' .. r.purpose end

-- The time left of a recipient's cooldown. It lasts for its duration, and longer while the request that started it may
-- still be sent. So, unless the cooldown is off, messages of two requests to one recipient are not in doubt together before
-- the first one's deadline: a lookup could not tell them apart. The key of that request's record follows from the cooldown's key.
local function cooldown_left(key, now)
  local value = redis.call('GET', key)
  if not value then return 0 end
  local cooldown_until, request_id = string.match(value, '^(%d+) (%S+)$')
  if number(cooldown_until) > now then return cooldown_until - now end
  local is_read, r = pcall(function()
    local other = read_record(redis.call('GET', string.sub(key, 1, -#'cooldown' - 1) .. 'req:' .. request_id), now)
    if other and other.state ~= 'ended' then read_progress(other) end
    return other
  end)
  -- The record of another request cannot be read: that request may still be sent.
  if not is_read then return 1000 end
  if not r or r.state == 'ended' then return 0 end
  if deadline_of(r) <= now then return 0 end
  -- At least 1 s, so that a caller does not retry at once.
  return math.max(r.lease_until - now, 1000)
end

-- The provider code of a stored suppression, and its end: a time, or '-'.
local function read_suppression(value)
  if not value then return nil end
  local provider_code, ends = string.match(value, '^(%d+) (%S+)$')
  assert(provider_code and (ends == '-' or number(ends)), 'a suppression cannot be read')
  return provider_code, ends
end

-- Reads the keys that all requests share: `sets` are sorted sets, `all_sends` the log of all sends. True if the kill switch is on.
local function check_shared_keys(sets, all_sends, kill_switch)
  for _, set in ipairs(sets) do redis.call('ZCARD', set) end
  local newest = redis.call('ZRANGE', all_sends, -1, -1, 'WITHSCORES')
  if newest[2] then time_of(newest[2]) end
  local switch = redis.call('GET', kill_switch)
  assert(not switch or string.find(switch, '^%d+ '), 'the kill switch cannot be read')
  return switch ~= false
end

-- Suppresses a recipient or a country for a duration, or without end if it is '-'. A suppression that ends later stays.
-- A recipient is also listed, with a note: since when, masked recipient, reason. The keys of both follow from `key`.
local function suppress(key, provider_code, duration, now, masked_and_reason)
  local _, old_until = read_suppression(redis.call('GET', key))
  local new_until = duration ~= '-' and now + duration
  if old_until == '-' or new_until and old_until and tonumber(old_until) >= new_until then return end
  local prefix, recipient = string.match(key, '^(.+):(%x+):suppressed$')
  local note_key, note
  if prefix then
    note_key = prefix .. ':' .. recipient .. ':suppression'
    local since = old_until and tonumber(old_until) > now and string.match(redis.call('GET', note_key) or '', '^%S+')
    note = (since or decimal(now)) .. ' ' .. masked_and_reason
    redis.call('ZREMRANGEBYSCORE', prefix .. ':suppressions', '-inf', decimal(now))
    redis.call('ZADD', prefix .. ':suppressions', new_until and decimal(new_until) or 'inf', recipient)
  end
  if new_until then
    redis.call('SET', key, provider_code .. ' ' .. decimal(new_until), 'PX', duration)
    if note then redis.call('SET', note_key, note, 'PX', duration) end
  else
    redis.call('SET', key, provider_code .. ' -')
    if note then redis.call('SET', note_key, note) end
  end
end

-- A recipient's suppression in force, as one line: provider code, until when, since when, masked recipient, reason.
local function suppression_line(key, note_key, now)
  local provider_code, ends = read_suppression(redis.call('GET', key))
  if not provider_code or ends ~= '-' and tonumber(ends) <= now then return nil end
  return table.concat({provider_code, ends, redis.call('GET', note_key) or '- -'}, ' ')
end

-- Lists a request among the recipient's last ones, although nothing was sent.
local function remember_unsent(recent, request_id, recent_max, now)
  redis.call('ZADD', recent, decimal(now), request_id)
  redis.call('ZREMRANGEBYRANK', recent, 0, -1 - recent_max)
  redis.call('PEXPIRE', recent, DAY)
end
