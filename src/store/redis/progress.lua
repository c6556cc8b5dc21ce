-- Progress: records the state that the handler with the lease reports, and extends or ends the lease.
-- KEYS     recipient, request
-- ARGV     settings; call: c8 lease token, H+1 attempts that the handler knows of (0: it does not know), B the reported state, I4
--          duration of the lease (requeued: until the next attempt is due), B has history; then the history
-- Answers  a: applied | s MESSAGE: already sent, as a receipt proves | r: the challenge is used or replaced (the code is useless) |
--          o: the lease is not the handler's any more, or the update is late
local REPORT = {waiting = 1, sending = 2, in_doubt = 3, requeued = 4, requeued_in_doubt = 5}

local function update_progress(keys, args)
  local c = settings_of(args[1])
  local token, attempts_made, report, duration, has_history, history_at = read('>c8HBI4B', args[2])
  attempts_made = attempts_made ~= 0 and attempts_made - 1
  local now = clock(c.test_time)
  local recipient = sub(keys[1], -16)
  local record, key = find_record(keys[2], call('GET', keys[2]), recipient)
  if not record then return 'o' end
  local state, lease_token, kept_until = read_common(record)
  if kept_until <= now or state == COMPLETED or lease_token ~= token then return 'o' end
  local r = read_progress(record, recipient)
  -- An update by a handler that does not know the last attempt changes nothing. A handler whose admission had no answer knows
  -- of no attempt, and may only requeue.
  local in_doubt = report == REPORT.in_doubt or report == REPORT.requeued_in_doubt
  if not attempts_made then
    if report ~= REPORT.requeued then return 'o' end
  elseif not attempts_are_current(r, attempts_made, in_doubt) then
    return 'o'
  end
  local proven_message = r.receipt ~= '' and read(RECEIPT, r.receipt)
  if report == REPORT.sending then
    if r.attempts_in_doubt ~= 0 and proven_message then return 's' .. proven_message end
    local _, our_id = read(CODE_FACTS, r.facts)
    local packed = find_challenge(read_recipient(keys[1], call('GET', keys[1])), r.purpose)
    if not packed then return 'r' end
    local expires, _, used_by, facts_at = read(CHALLENGE, packed)
    local _, id = read(CODE_FACTS, packed, facts_at)
    if id ~= our_id or used_by ~= '' or expires + c.challenge_kept_after <= now then return 'r' end
  end
  -- An attempt that the record counts and the handler has not made is withdrawn.
  if not in_doubt and r.state == SENDING and r.attempts_started ~= attempts_made then r.attempts_started = r.attempts_started - 1 end
  if in_doubt then mark_in_doubt(r) end
  if report == REPORT.waiting then
    r.state = WAITING
  elseif report == REPORT.sending then
    r.state, r.attempts_started, r.attempt_started_at = SENDING, r.attempts_started + 1, now
  elseif report ~= REPORT.in_doubt then
    -- Requeued: the lease ends. An attempt that is recorded as in doubt stays in doubt.
    if r.state == SENDING then r.state = WAITING end
    r.lease_token, r.unfinished_leases = NO_LEASE, max(0, r.unfinished_leases - 1)
  end
  r.busy_until = now + duration
  if has_history == 1 then r.history = sub(args[2], history_at) end
  call('SET', key, pack_progress(r), 'KEEPTTL')
  return report == REPORT.in_doubt and proven_message and 's' .. proven_message or 'a'
end
