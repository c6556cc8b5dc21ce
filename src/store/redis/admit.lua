-- Admission: decides whether a request may be sent, and with which challenge. If so, charges every limit once.
-- KEYS     record, challenge, cooldown, suppression, country's suppression, recent (requests without a send),
--          index (request id to recipient), wrong (wrong attempts), refunds (those after a provider's refusal),
--          then the logs of sends: the recipient's, the user's, the client IP's, its network's, and all;
--          then the lists that completion writes: expected receipts, suppressed recipients
-- ARGV     the lists below, in their order. `requested_at` and `not_after` may be '-'; flags are 0 or 1.
--          `token`: of the handler's lease. `known_kids`: the ids of the keys whose codes can be sent, as ',ID,ID,'.
--          `challenge_id` to `is_callers_code`: the challenge to start if none is continued. `min_life_left_divisor`: a
--          pending challenge is continued if at least `code_life` / this is left. `refused`: the error to reject a new
--          request with, as JSON, or 'null'. `history`: JSON. `suspect_from`: with this many unfinished leases a request is a
--          crash suspect.
--          `shared_member`: a digest of recipient and request id, the member in the logs of user, client IP, network and
--          all. A request id is unique only within a recipient.
-- Answers  granted GRANT: make the attempt
--          in_doubt GRANT: the attempt of an earlier lease is in doubt
--          completed OURS OUTCOME: OURS is 1 if this lease recorded the outcome
--          busy MS: another lease is valid, or the next attempt is not due, for this long
--          crash_suspect UNFINISHED_LEASES MS: the time is that until the deadline
--          paused: the send gate is closed
--          GRANT: attempt, now, start of the attempt, attempts in doubt, unfinished leases, sends in a day,
--          challenge id, key id, digest, caller's code (0 or 1), admission, expiry, deadline, then the history or '-'
--
-- A requeued request has no owner ('-'), and `lease_until` is when its next attempt is due.
local record, challenge, cooldown, suppression, country_suppression, recent, index, wrong, refunds = unpack(KEYS, 1, 9)
local sends, user, ip, network, all = unpack(KEYS, 10, 14)
local now, token, request_id, shared_member, requested_at = unpack(ARGV, 1, 5)
local not_after, code_life, lease_duration, known_kids = unpack(ARGV, 6, 9)
local challenge_id, kid, digest, is_callers_code, purpose, wrong_per_challenge = unpack(ARGV, 10, 15)
-- A count of 0 turns a limit off.
local recipient_count, day_count, user_count, ip_count, network_count, all_count = unpack(ARGV, 16, 21)
local wrong_count, refunds_count = unpack(ARGV, 22, 23)
local recipient_window, cooldown_duration, time_left_min, min_life_left_divisor = unpack(ARGV, 24, 27)
local rejection_kept, challenge_kept_after, outcome_kept = unpack(ARGV, 28, 30)
local refused, history, recipient, recent_max, gate_closed, suspect_from = unpack(ARGV, 31, 36)

now = clock(now)

-- A new request gets the number of sends and no history; any other gets 0 and its history.
local function grant(r, is_new)
  return table.concat({r.state == 'doubt' and 'in_doubt' or 'granted', r.attempt, decimal(now), r.started_at,
    r.attempts_in_doubt, r.unfinished_leases, is_new and used(sends, DAY, now) or 0, r.facts,
    is_new and '-' or r.history}, ' ')
end

-- A request that has a record: the answer follows from it, and nothing is charged.
local r = read_record(redis.call('GET', record), now)
if r and r.state == 'ended' then return 'completed ' .. (r.owner == token and '1 ' or '0 ') .. r.rest end
if gate_closed == '1' then return 'paused' end
if r then read_progress(r) end
-- Completion needs them: better no message than one whose outcome cannot be recorded.
for i = 15, 16 do redis.call('ZCARD', KEYS[i]) end
if r then
  -- If this step is repeated because its answer was lost, the answer is the same.
  local admitted_at = string.match(r.facts, '^%S+ %S+ %S+ %S+ (%S+)')
  local is_new = r.owner == token and r.state == 'sending' and r.started_at == admitted_at
  if r.owner ~= token then
    if tonumber(r.lease_until) > now then return 'busy ' .. decimal(r.lease_until - now) end
    if tonumber(r.unfinished_leases) >= tonumber(suspect_from) then
      return 'crash_suspect ' .. r.unfinished_leases .. ' ' .. decimal(math.max(0, deadline_of(r) - now))
    end
    r.unfinished_leases = r.unfinished_leases + 1
    if r.state == 'waiting' then
      r.state, r.attempt, r.started_at = 'sending', r.attempt + 1, decimal(now)
    else
      mark_in_doubt(r)
    end
  end
  r.owner, r.lease_until = token, decimal(now + lease_duration)
  redis.call('SET', record, progress_line(r), 'KEEPTTL')
  return grant(r, is_new)
end

-- The challenge: the pending one, if enough of its life is left and this request can send its code; else a new one.
local pending_id, pending_kid, pending_digest, pending_expires
local is_read, is_continued = pcall(function()
  local pending = redis.call('HMGET', challenge, 'id', 'kid', 'digest', 'callers', 'expires', 'used', 'wrong')
  local pending_callers, used_by, checks
  pending_id, pending_kid, pending_digest, pending_callers, pending_expires, used_by, checks = unpack(pending)
  return pending_id and not used_by and number(checks) < tonumber(wrong_per_challenge)
    and number(pending_expires) - now >= math.max(code_life / min_life_left_divisor, tonumber(time_left_min))
    and string.find(known_kids, ',' .. pending_kid .. ',', 1, true)
    and pending_callers == is_callers_code and (is_callers_code == '0' or pending_digest == digest)
end)
-- A damaged one is replaced like one without checks left. The recipient's wrong attempts are counted elsewhere.
is_continued = is_read and is_continued
local expires = is_continued and tonumber(pending_expires) or now + code_life
local deadline = math.min(math.min(tonumber(requested_at) or now, now) + code_life, expires)
deadline = math.min(deadline, tonumber(not_after) or deadline)

-- Writes a new record. Completion extends the record but not the index, so the index gets more time here:
-- `challenge_kept_after`.
local function write(line, kept)
  redis.call('SET', record, line, 'PX', kept)
  redis.call('SET', index, recipient, 'PX', decimal(kept + challenge_kept_after))
end

-- Rejections are recorded, so that a repeat gets the same answer.
local function reject_with(error)
  local outcome = '{"status":"rejected","at":' .. decimal(now) .. ',"purpose":"' .. purpose .. '","error":' .. error
    .. ',"notes":' .. history .. '}'
  remember_unsent(recent, request_id, recent_max, now)
  write(table.concat({'ended', token, decimal(now + rejection_kept), '-', outcome}, ' '), rejection_kept)
  return 'completed 1 ' .. outcome
end

local function reject(error_code, wait_time, provider_code)
  local error = '{"code":"' .. error_code .. '"'
  if provider_code then error = error .. ',"provider_code":' .. provider_code end
  if wait_time then error = error .. ',"retry_after":' .. decimal(math.ceil(wait_time / 1000)) end
  return reject_with(error .. '}')
end

-- The provider code of a suppression in force, and the time that is left of it; no time if it has no end.
local function in_force(key)
  local provider_code, ends = read_suppression(redis.call('GET', key))
  if provider_code and (ends == '-' or tonumber(ends) > now) then return provider_code, ends ~= '-' and ends - now end
end

if refused ~= 'null' then return reject_with(refused) end
if deadline - now < tonumber(time_left_min) then return reject('expired') end
local provider_code, time_left = in_force(suppression)
-- Code 0 stands for an operator's suppression, or for a provider that gave no number.
if provider_code then return reject('suppressed', time_left, provider_code ~= '0' and provider_code or nil) end
provider_code, time_left = in_force(country_suppression)
if provider_code then return reject('blocked', time_left, provider_code) end
-- Wrong attempts limit sends, too: a code that could not be checked is not worth a message.
local limited_for = math.max(
  wait(sends, recipient_count, recipient_window, now), wait(sends, day_count, DAY, now), wait(user, user_count, HOUR, now),
  wait(ip, ip_count, HOUR, now), wait(network, network_count, HOUR, now), wait(all, all_count, HOUR, now),
  wait(wrong, wrong_count, HOUR, now), wait(refunds, refunds_count, DAY, now))
if limited_for > 0 then return reject('rate_limited', limited_for) end
local cooldown_for = cooldown_left(cooldown, now)
if cooldown_for > 0 then return reject('cooldown', cooldown_for) end

-- Granted: charge every limit once, then write challenge and record.
append(sends, request_id, math.max(recipient_window, DAY), now)
if user_count ~= '0' then append(user, shared_member, HOUR, now) end
if ip_count ~= '0' then append(ip, shared_member, HOUR, now) end
if network_count ~= '0' then append(network, shared_member, HOUR, now) end
if all_count ~= '0' then append(all, shared_member, HOUR, now) end
if cooldown_duration ~= '0' then
  redis.call('SET', cooldown, decimal(now + cooldown_duration) .. ' ' .. request_id,
    'PX', decimal(math.max(cooldown_duration, deadline - now)))
end
if is_continued then
  challenge_id, kid, digest = pending_id, pending_kid, pending_digest
else
  redis.call('DEL', challenge)
  redis.call('HSET', challenge, 'id', challenge_id, 'kid', kid, 'digest', digest, 'callers', is_callers_code,
    'expires', decimal(expires), 'wrong', 0)
  redis.call('PEXPIRE', challenge, decimal(code_life + challenge_kept_after))
end
r = {state = 'sending', owner = token, kept_until = decimal(now + outcome_kept), receipt = '-',
  lease_until = decimal(now + lease_duration), attempt = 1, started_at = decimal(now),
  attempts_in_doubt = 0, unfinished_leases = 1, purpose = purpose, history = history,
  facts = table.concat({challenge_id, kid, digest, is_callers_code, decimal(now), decimal(expires), decimal(deadline)},
    ' ')}
write(progress_line(r), outcome_kept)
return grant(r, true)
