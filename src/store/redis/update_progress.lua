-- Progress: records the state that the handler with the lease reports, and extends or ends the lease.
-- KEYS     record, challenge
-- ARGV     now, token of the lease, attempts that the handler knows of or '-', the state
--          (waiting|sending|doubt|requeued|requeued_in_doubt), the duration of the lease (requeued: until the next attempt is
--          due), history as JSON or '-' (it stays)
-- Answers  applied | already_sent MESSAGE (a receipt proves it) | challenge_replaced (or used: the code is useless) |
--          not_owner (the lease is not the handler's any more, or the update is late)
local record, challenge = unpack(KEYS)
local now, token, attempts_made, progress, duration, history = unpack(ARGV)
now = clock(now)
local r = read_record(redis.call('GET', record), now)
if not r or r.state == 'ended' or r.owner ~= token then return 'not_owner' end
read_progress(r)
-- An update by a handler that does not know the last attempt changes nothing. A handler whose admission had no answer knows
-- of no attempt, and may only requeue.
local in_doubt = progress == 'doubt' or progress == 'requeued_in_doubt'
local had_no_admission_answer = attempts_made == '-' and progress == 'requeued'
if not knows_last_attempt(r, attempts_made, in_doubt) and not had_no_admission_answer then
  return 'not_owner'
end
local proven_message = receipt_of(r)
-- An attempt that the record counts and the handler has not made is withdrawn.
if not in_doubt and r.state == 'sending' and r.attempt ~= attempts_made then r.attempt = decimal(r.attempt - 1) end
if progress == 'waiting' then
  r.state = 'waiting'
elseif progress == 'sending' then
  if r.attempts_in_doubt ~= '0' and proven_message then return 'already_sent ' .. proven_message end
  -- The code of a challenge that was used or replaced is useless.
  local challenge_id, used_by = unpack(redis.call('HMGET', challenge, 'id', 'used'))
  local expires = redis.call('HMGET', challenge, 'expires')[1]
  if challenge_id ~= string.match(r.facts, '^%S+') or used_by or expires + 3600000 <= now then return 'challenge_replaced' end
  r.state, r.attempt, r.started_at = 'sending', decimal(r.attempt + 1), decimal(now)
elseif progress == 'doubt' then
  mark_in_doubt(r)
else
  -- Requeued: the lease ends. An attempt that is recorded as in doubt stays in doubt.
  if in_doubt then mark_in_doubt(r) end
  if r.state == 'sending' then r.state = 'waiting' end
  r.owner, r.unfinished_leases = '-', math.max(0, r.unfinished_leases - 1)
end
r.lease_until = decimal(now + duration)
if history ~= '-' then r.history = history end
redis.call('SET', record, progress_line(r), 'KEEPTTL')
return progress == 'doubt' and proven_message and 'already_sent ' .. proven_message or 'applied'
