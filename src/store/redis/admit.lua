-- Admission: decides whether a request may be sent, and with which challenge. If so, charges every limit once.
-- KEYS     recipient, request, country's suppression, then the subject logs; with more than one shard only the first two
-- ARGV     settings; call: c8 lease token, I6+1 requested at, I6+1 the caller's deadline, B marks: 1 gate closed, 2 a suppression comes before the error, I4 the unfinished leases
--          from which on a request is a crash suspect, Bc0 purpose, Bc0 code facts of the challenge to start, Hc0 error to reject a
--          new request with, or empty, Bc0 text of the request id, empty for a UUID, Bc0 amount to reserve, as spend.lua reads it, or
--          empty; then the history. With more than one shard also what was read and charged outside: I6 end of the country's suppression (0: none), I4 its provider code, I6
--          longest wait of the refused charges, B number of its limit, Hc0 charges made, Hc0 charges found, of an earlier call
-- Answers  with more than one shard after the record's CHARGES, see charges.lua;
--          n NEW: granted, a new request with the proposed challenge
--          c NEW FACTS: granted, a new request that continues the pending challenge with these code facts
--          g GRANT HISTORY: granted again
--          d GRANT HISTORY: the attempt of an earlier lease is in doubt
--          r SENDS GRANT: granted, the repeated step of a new request: H sends in a day
--          e OURS REST: completed; OURS is 1 if this lease recorded the outcome. REST is a completed record without its
--            common fields
--          b MS: busy: another lease is valid, or the next attempt is not due, for this long (I6)
--          s UNFINISHED_LEASES MS: crash suspect (H, I6): the time is that until the deadline
--          p: the send gate is closed
--   NEW    I6 now, H sends in a day, I6 expiry, I6 deadline
--   GRANT  I6 now, H attempt, I6 its start, H attempts in doubt, H unfinished leases, I6 admission, I6 expiry, I6 deadline, Bc0 code
--          facts

-- Reasons of a rejection, and the form of an outcome that is one, as `records.rs` reads them. The error of a rejection is empty, the
-- given one, or of `rate_limited` B number of the limit.
local REASON = {given_error = 0, expired = 1, suppressed = 2, blocked = 3, rate_limited = 4, cooldown = 5}
local REJECTION_FORM = 2

local function grant_again(r, now)
  return pack('>I6HI6HHI6I6I6Bc0', now, r.attempts_started, r.attempt_started_at, r.attempts_in_doubt, r.unfinished_leases,
    r.admitted_at, r.expires, r.deadline, #r.facts, r.facts)
end

-- A request that has a record: the answer follows from it, and nothing is charged.
local function admit_again(c, key, record, recipient_key, recipient_value, token, gate_closed, crash_suspect_leases_min, now)
  local state, lease_token, _, _, rest_at = read_common(record)
  if state == COMPLETED then
    return 'e' .. (lease_token == token and '1' or '0') .. sub(record, rest_at)
  end
  if gate_closed == 1 then return 'p' end
  local r = read_progress(record, sub(recipient_key, -16))
  -- If this step is repeated because its answer was lost, the answer is the same.
  local is_new = r.lease_token == token and r.state == SENDING and r.attempt_started_at == r.admitted_at
  if r.lease_token ~= token then
    if r.busy_until > now then return pack('>c1I6', 'b', r.busy_until - now) end
    if r.unfinished_leases >= crash_suspect_leases_min then
      return pack('>c1HI6', 's', r.unfinished_leases, max(0, r.deadline - now))
    end
    r.unfinished_leases = min(r.unfinished_leases + 1, 65535)
    if r.state == WAITING then
      r.state, r.attempts_started, r.attempt_started_at = SENDING, r.attempts_started + 1, now
    else
      mark_in_doubt(r)
    end
  end
  r.lease_token, r.busy_until = token, now + c.lease_duration
  call('SET', key, pack_progress(r), 'KEEPTTL')
  if not is_new then return (r.state == DOUBT and 'd' or 'g') .. grant_again(r, now) .. r.history end
  local sends = count_inside(read_recipient(recipient_key, recipient_value).sends, REQUEST_ENTRY_BYTES, DAY, now)
  return pack('>c1H', 'r', sends) .. grant_again(r, now)
end

-- The expiry and code facts of the pending challenge, if enough of its life is left and this request can send its code.
local function continued_challenge(c, s, purpose, proposed_facts, now)
  local packed = find_challenge(s, purpose)
  if not packed then return nil end
  local expires, checks, used_by, facts_at = read(CHALLENGE, packed)
  local is_callers_code, _, digest, kid, after = read(CODE_FACTS, packed, facts_at)
  local our_is_callers_code, _, our_digest = read('>Bc16c16', proposed_facts)
  local continues = used_by == '' and checks < c.wrong_per_challenge and expires - now >= c.life_left_min
    and find(c.code_key_ids, ',' .. kid .. ',', 1, true)
    and is_callers_code == our_is_callers_code and (is_callers_code == 0 or digest == our_digest)
  if continues then return expires, sub(packed, facts_at, after - 1) end
end

-- The obstacle to a new request: a reason, the time until it ends if it does, a provider code, and the number of a limit.
-- An error that is given comes after a suppression of the recipient.
local function rejection_reason(c, s, country, outside, spend, deadline, keys, stored, now, has_error)
  if deadline - now < c.time_left_min then return REASON.expired, 0, 0 end
  if s.suppressed_until > now then
    return REASON.suppressed, s.suppressed_until == NO_END and 0 or s.suppressed_until - now, s.suppression_code
  end
  if has_error then return REASON.given_error, 0, 0 end
  if country then
    local code, till = read_country(keys[3], country)
    if till > now then return REASON.blocked, till == NO_END and 0 or till - now, code end
  end
  if outside and outside.suppressed_until > now then
    local till = outside.suppressed_until
    return REASON.blocked, till == NO_END and 0 or till - now, outside.suppression_code
  end
  local left, number = limited_for(c, s, keys, 4, stored, now)
  if outside and outside.wait > left then left, number = outside.wait, outside.limit end
  local budget_wait, budget_limit = reports.spend.wait(spend, now)
  if budget_wait > left then left, number = budget_wait, budget_limit end
  if left > 0 then return REASON.rate_limited, left, 0, number end
  left = cooldown_left(s, prefix_of(keys[1]), sub(keys[1], -16), now)
  if left > 0 then return REASON.cooldown, left, 0 end
end

-- Where a new record is written, and its time to live: at the plain key, unless that holds the record of another recipient; then at
-- the plain key with the recipient appended. Such a record is found only while the plain key exists, so that one is made to live for
-- `outcome_kept` at least.
local function choose_record_key(c, key, at_plain_key, recipient, kept_px, now)
  if not at_plain_key then return key, kept_px end
  last_key = key
  local is_read, _, _, kept_until = pcall(read_common, at_plain_key)
  if is_of(at_plain_key, recipient) or is_read and kept_until <= now then return key, c.outcome_px end
  call('PEXPIRE', key, c.outcome_px, 'GT')
  return key .. recipient, kept_px
end

-- Writes the record of a new request and the value of its recipient; or neither, if one of the keys has another type.
local function write_new(key, record, kept_px, recipient_key, s, c, now)
  local old = call('SET', key, record, 'PX', kept_px, 'GET')
  local is_written, problem = pcall(write_recipient, recipient_key, s, c.window, now)
  if is_written then return end
  -- Not by `call`: the key to blame stays that of the recipient.
  if old then server_call('SET', key, old, 'KEEPTTL') else server_call('DEL', key) end
  error(problem)
end

local function reject(c, keys, s, at_plain_key, token, purpose, history, reason, left, code, rejection_error, id_text, now)
  local recipient, request = sub(keys[1], -16), sub(keys[2], -17)
  local outcome = pack('>BI6BI4I4Bc0Hc0', REJECTION_FORM, now, reason, ceil(left / 1000), code, #purpose, purpose,
    #rejection_error, rejection_error) .. history
  local key, kept_px = choose_record_key(c, keys[2], at_plain_key, recipient, c.rejection_px, now)
  s.unsent = append(s.unsent, REQUEST_ENTRY_BYTES, request, DAY, now, c.recent_max)
  local record = pack_completed(recipient, token, now + c.rejection_kept, '', 0, '', '', outcome)
  write_new(key, record, kept_px, keys[1], s, c, now)
  if id_text ~= '' then call('SET', prefix_of(keys[1]) .. 't' .. request, id_text, 'PX', decimal(3 * DAY)) end
  -- The completion of a record without a message.
  return 'e1' .. pack(COMPLETED_FIELDS, 0, 0, '', 0, '') .. outcome
end

local function admit(keys, args)
  local c = settings_of(args[1])
  local token, requested_at, not_after, marks, crash_suspect_leases_min, purpose, proposed_facts, rejection_error, id_text,
    to_reserve, history_at = read('>c8I6I6BI4Bc0Bc0Hc0Bc0Bc0', args[2])
  local history, gate_closed, yields = sub(args[2], history_at), marks % 2, marks >= 2
  local outside = args[3] and charges.read_outside(args[3])
  local now = clock(c.test_time)
  requested_at = requested_at == 0 and now or min(requested_at - 1, now)
  not_after = not_after == 0 and NO_END or not_after - 1
  local recipient, request = sub(keys[1], -16), sub(keys[2], -17)
  local stored = call('MGET', unpack(keys))
  local value, at_plain_key = stored[1], stored[2]
  local record, key = find_record(keys[2], at_plain_key, recipient)
  if record then
    local _, _, kept_until, _, _, recorded_charges, is_refunded = read_common(record)
    if kept_until > now then
      local answer = admit_again(c, key, record, keys[1], value, token, gate_closed, crash_suspect_leases_min, now)
      return outside and charges.before(recorded_charges, is_refunded, answer) or answer
    end
  end
  if gate_closed == 1 then return outside and charges.before('', false, 'p') or 'p' end

  local s = read_recipient(keys[1], value)
  -- A challenge that cannot be read is replaced.
  local is_read, continued_expires, continued_facts
  if s.challenges ~= '' then
    is_read, continued_expires, continued_facts = pcall(continued_challenge, c, s, purpose, proposed_facts, now)
  end
  if not is_read then continued_expires = nil end
  local facts, expires = continued_facts or proposed_facts, continued_expires or now + c.code_life
  local deadline = min(requested_at + c.code_life, expires, not_after)
  local spend = reports.spend.asked(keys[1], to_reserve, now)
  local reason, left, code, number
  if rejection_error ~= '' and not yields then
    reason, left, code = REASON.given_error, 0, 0
  else
    reason, left, code, number = rejection_reason(c, s, stored[3], outside, spend, deadline, keys, stored, now, yields)
    if number then rejection_error = pack('>B', number) elseif reason ~= REASON.given_error then rejection_error = '' end
  end
  if reason then
    local answer = reject(c, keys, s, at_plain_key, token, purpose, history, reason, left, code, rejection_error, id_text, now)
    return outside and charges.before('', false, answer) or answer
  end

  if outside then charges.expect_place_counts(outside, now) end
  s.sends = append(s.sends, REQUEST_ENTRY_BYTES, request, c.window, now, c.entries_max)
  if c.cooldown > 0 then
    s.cooldown_until, s.cooldown_deadline, s.cooldown_request = now + c.cooldown, deadline, request
  elseif s.cooldown_request == request then
    s.cooldown_deadline = deadline
  end
  if not continued_expires then
    local packed = pack(CHALLENGE, expires, 0, 0, '') .. facts
    s.challenges = with_challenge(s, purpose, packed, c.challenge_kept_after, now)
  end
  local place, kept_px = choose_record_key(c, keys[2], at_plain_key, recipient, c.outcome_px, now)
  local new_record = pack_in_progress(recipient, SENDING, token, now + c.outcome_kept, '', now + c.lease_duration, 1, now, 0, 1, now,
    expires, deadline, purpose, facts, history)
  local charged = (outside and outside.charges or '') .. reports.spend.charge_of(spend, now)
  new_record = charges.add(new_record, charged, false)
  write_new(place, new_record, kept_px, keys[1], s, c, now)
  charge_subject_logs(c, keys, 4, stored, now)
  reports.spend.reserve(spend)
  if id_text ~= '' then call('SET', prefix_of(keys[1]) .. 't' .. request, id_text, 'PX', decimal(3 * DAY)) end
  local sends = count_inside(s.sends, REQUEST_ENTRY_BYTES, DAY, now)
  local answer = pack('>c1I6HI6I6c0', continued_facts and 'c' or 'n', now, sends, expires, deadline, continued_facts or '')
  return outside and charges.before(charged, false, answer) or answer
end
