-- Admission: decides whether a request may be sent, and with which challenge. If so, charges every limit once.
-- KEYS     recipient, request, country's suppression, then the shared logs
-- ARGV     settings; call: c8 token of the lease, I6 requested at and I6 deadline of the caller (each one more; 0: not given),
--          B gate closed, I4 suspect from (with this many unfinished leases a request is a crash suspect), Bc0 purpose, Bc0 facts of
--          the challenge to start, Hc0 error to reject a new request with, or none, Bc0 text of the request id, none for a UUID; then
--          the history
-- Answers  n NEW: granted, a new request with the proposed challenge: I6 now, H sends in a day, I6 expiry, I6 deadline
--          c NEW FACTS: granted, a new request that continues the pending challenge with these facts
--          g GRANT | d GRANT: granted again | the attempt of an earlier lease is in doubt: I6 now, H attempt, I6 its start,
--            H attempts in doubt, H unfinished leases, I6 admission, I6 expiry, I6 deadline, Bc0 facts, then the history
--          r SENDS GRANT: granted, the repeated step of a new request: H sends in a day, then a grant without the history
--          e OURS COMPLETION: completed; OURS is 1 if this lease recorded the outcome. A completion is what a completed record
--            holds after its head
--          b MS: busy: another lease is valid, or the next attempt is not due, for this long (I6)
--          s UNFINISHED_LEASES MS: crash suspect (H, I6): the time is that until the deadline
--          p: paused: the send gate is closed
-- A requeued request has no owner, and `lease_until` is when its next attempt is due.
local CHANNEL_ERROR, EXPIRED, SUPPRESSED, BLOCKED, RATE_LIMITED, COOLDOWN = 0, 1, 2, 3, 4, 5

local function grant_again(r, now)
  return pack('>I6HI6HHI6I6I6Bc0', now, r.attempt, r.started_at, r.attempts_in_doubt, r.unfinished_leases, r.admitted_at,
    r.expires, r.deadline, #r.facts, r.facts)
end

-- A request that has a record: the answer follows from it, and nothing is charged.
local function admit_again(c, key, line, recipient_key, recipient_value, token, gate_closed, suspect_from, facts, now)
  local state, owner, _, _, rest = read_head(line)
  if state == COMPLETED then
    return 'e' .. (owner == token and '1' or '0') .. sub(line, rest)
  end
  if gate_closed == 1 then return 'p' end
  local r = read_progress(line, sub(recipient_key, -16))
  -- If this step is repeated because its answer was lost, the answer is the same.
  local is_new = r.owner == token and r.state == SENDING and r.started_at == r.admitted_at
  if r.owner ~= token then
    if r.lease_until > now then return pack('>c1I6', 'b', r.lease_until - now) end
    if r.unfinished_leases >= suspect_from then
      return pack('>c1HI6', 's', r.unfinished_leases, max(0, r.deadline - now))
    end
    r.unfinished_leases = min(r.unfinished_leases + 1, 65535)
    if r.state == WAITING then
      r.state, r.attempt, r.started_at = SENDING, r.attempt + 1, now
    else
      mark_in_doubt(r)
    end
  end
  r.owner, r.lease_until = token, now + c.lease_duration
  call('SET', key, progress_line(r), 'KEEPTTL')
  if not is_new then return (r.state == DOUBT and 'd' or 'g') .. grant_again(r, now) .. r.history end
  local sends = used(read_recipient(recipient_key, recipient_value).sends, REQUEST_ENTRY, DAY, now)
  return pack('>c1H', 'r', sends) .. grant_again(r, now)
end

-- The pending challenge, if enough of its life is left and this request can send its code.
local function continued_challenge(c, s, purpose, facts, now)
  local body = find_challenge(s, purpose)
  if not body then return nil end
  local expires, checks, used_by, at = read(BODY, body)
  local callers, id, digest, kid, after = read(FACTS, body, at)
  local ours_callers, _, our_digest = read('>Bc16c16', facts)
  local continues = used_by == '' and checks < c.wrong_per_challenge and expires - now >= c.life_left_min
    and find(c.known_kids, ',' .. kid .. ',', 1, true) and callers == ours_callers and (callers == 0 or digest == our_digest)
  if continues then return expires, sub(body, at, after - 1) end
end

-- The obstacle to a new request: a reason, the time until it ends if it does, and a provider code.
local function refusal(c, s, country, deadline, keys, stored, now)
  if deadline - now < c.time_left_min then return EXPIRED, 0, 0 end
  if s.suppressed_until > now then
    return SUPPRESSED, s.suppressed_until == NO_END and 0 or s.suppressed_until - now, s.suppression_code
  end
  if country then
    local code, till = read_country(keys[3], country)
    if till > now then return BLOCKED, till == NO_END and 0 or till - now, code end
  end
  local left = limited_for(c, s, keys, 4, stored, now)
  if left > 0 then return RATE_LIMITED, left, 0 end
  left = cooldown_left(s, prefix_of(keys[1]), sub(keys[1], -16), now)
  if left > 0 then return COOLDOWN, left, 0 end
end

-- Where a new record goes, and its time to live: the key of the request alone, unless another recipient has it. A record that
-- another recipient's outlives would be missed, so a key that is taken over, or shared, is kept as long as any record.
local function place_record(c, key, stood, recipient, kept_px, now)
  if not stood then return key, kept_px end
  touched = key
  local _, _, kept_until = read_head(stood)
  if is_of(stood, recipient) or kept_until <= now then return key, c.outcome_px end
  call('PEXPIRE', key, c.outcome_px, 'GT')
  return key .. recipient, kept_px
end

-- Writes the record of a new request and the value of its recipient; or neither, if one of the keys has another type, which
-- MGET takes for no value.
local function write_new(key, record, kept_px, recipient_key, s, c, now)
  local old = call('SET', key, record, 'PX', kept_px, 'GET')
  local is_written, problem = pcall(write_recipient, recipient_key, s, c.window, now)
  if is_written then return end
  if old then server_call('SET', key, old, 'KEEPTTL') else server_call('DEL', key) end
  error(problem)
end

local function reject(c, keys, s, stood, token, purpose, history, reason, left, code, refused, text, now)
  local recipient, request = sub(keys[1], -16), sub(keys[2], -17)
  local outcome = pack('>BI6BI4I4Bc0Hc0', 2, now, reason, ceil(left / 1000), code, #purpose, purpose, #refused, refused) .. history
  local key, kept_px = place_record(c, keys[2], stood, recipient, c.rejection_px, now)
  s.unsent = append(s.unsent, REQUEST_ENTRY, request, DAY, now, c.recent_max)
  local record = completed(recipient, token, now + c.rejection_kept, '', 0, '', '', outcome)
  write_new(key, record, kept_px, keys[1], s, c, now)
  if text ~= '' then call('SET', prefix_of(keys[1]) .. 't' .. request, text, 'PX', decimal(3 * DAY)) end
  return 'e1\0\0\0\0\0' .. outcome
end

local function admit(keys, args)
  local c = settings_of(args[1])
  local token, requested_at, not_after, gate_closed, suspect_from, purpose, facts, refused, text, history_at =
    read('>c8I6I6BI4Bc0Bc0Hc0Bc0', args[2])
  local history = sub(args[2], history_at)
  local now = clock(c.test_time)
  local recipient, request = sub(keys[1], -16), sub(keys[2], -17)
  local stored = call('MGET', unpack(keys))
  local value, stood = stored[1], stored[2]
  local line, key = find_record(keys[2], stood, recipient)
  if line then
    local _, _, kept_until = read_head(line)
    if kept_until > now then
      return admit_again(c, key, line, keys[1], value, token, gate_closed, suspect_from, facts, now)
    end
  end
  if gate_closed == 1 then return 'p' end

  local s = read_recipient(keys[1], value)
  -- A challenge that cannot be read is replaced.
  local is_read, expires, its_facts
  if s.challenges ~= '' then is_read, expires, its_facts = pcall(continued_challenge, c, s, purpose, facts, now) end
  if not is_read then expires = nil end
  local deadline = min((requested_at ~= 0 and min(requested_at - 1, now) or now) + c.code_life, expires or now + c.code_life)
  if not_after ~= 0 then deadline = min(deadline, not_after - 1) end
  local reason, left, code
  if refused ~= '' then
    reason, left, code = CHANNEL_ERROR, 0, 0
  else
    reason, left, code = refusal(c, s, stored[3], deadline, keys, stored, now)
  end
  if reason then
    return reject(c, keys, s, stood, token, purpose, history, reason, left, code, refused, text, now)
  end

  s.sends = append(s.sends, REQUEST_ENTRY, request, c.window, now, c.entries_max)
  if c.cooldown > 0 then
    s.cooldown_until, s.cooldown_deadline, s.cooldown_request = now + c.cooldown, deadline, request
  elseif s.cooldown_request == request then
    s.cooldown_deadline = deadline
  end
  if not expires then
    local body = pack(BODY, now + c.code_life, 0, 0, '') .. facts
    s.challenges = with_challenge(s, purpose, body, c.challenge_kept_after, now)
  end
  local place, kept_px = place_record(c, keys[2], stood, recipient, c.outcome_px, now)
  local own_facts, own_expires = its_facts or facts, expires or now + c.code_life
  local record = in_progress(recipient, SENDING, token, now + c.outcome_kept, '', now + c.lease_duration, 1, now, 0, 1, now,
    own_expires, deadline, purpose, own_facts, history)
  write_new(place, record, kept_px, keys[1], s, c, now)
  charge_shared(c, keys, 4, stored, now)
  if text ~= '' then call('SET', prefix_of(keys[1]) .. 't' .. request, text, 'PX', decimal(3 * DAY)) end
  local sends = used(s.sends, REQUEST_ENTRY, DAY, now)
  return pack('>c1I6HI6I6c0', its_facts and 'c' or 'n', now, sends, own_expires, deadline, its_facts or '')
end
