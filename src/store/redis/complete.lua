-- Completion: records the first outcome of a request, its refund, message claim, expected receipt and suppression. The record is
-- written last but for the refund, whose keys were read before. So a step that fails at damaged data has written no record, and
-- can be repeated from the start.
-- KEYS     recipient, request, then the subject logs if charges are refunded, then the country if its suppression begins
-- ARGV     settings; call: c8 lease token, I4 how long the outcome is kept, B nothing was sent, H attempts that the handler knows
--          of, B refund, I6+1 poll for the receipt after (0: none is expected), B found by a lookup (another request may have
--          claimed the message), B the id is known (the provider lists the message under the outcome's id), Hc0 message id or
--          empty, Bc0 text of the request id, empty for a UUID, Hc0 suppression or empty: B target (1: the recipient, 2: the
--          country), I4 provider code, I6 duration (NO_END: without end), then the masked recipient; Bc0 price, as spend.lua reads it, or
--          empty; then the outcome. With more
--          than one shard also an empty argument, and no subject logs and no country: the record lists the charges, and the
--          country's suppression follows
-- Answers  with more than one shard after the record's CHARGES, see charges.lua;
--           r: recorded, by this call or an earlier one with this token; with more than one shard I6 the time since | a REST: already
--          completed; REST is the recorded one without its common fields | m: another request has claimed the message | o: the
--          handler says that nothing was sent, and has lost the lease, or does not know of the last attempt, or an attempt is in doubt

-- Counted: after the provider's refusal. A limit bounds these refunds.
local REFUND = {none = 0, full = 1, full_and_counted = 2}

-- The request's messages whose ids are not known, packed; empty if there are none.
local function unnamed_at_completion(record, recipient, id_is_known, now)
  if not record then
    if id_is_known == 1 then return '' end
    -- One message, at any time in which a claim could matter.
    return pack('>HI6I6BB', 1, max(0, now - CLAIM_KEPT), now, 0, 0)
  end
  local r = read_progress(record, recipient)
  local count, from, till = possible_messages(r, now)
  -- The outcome has the id of the last attempt's message; the earlier attempts ended before that one began.
  if id_is_known == 1 and r.state == SENDING then till = r.attempt_started_at end
  if count - id_is_known <= 0 then return '' end
  return pack('>HI6I6Bc0Bc0', count - id_is_known, max(from, 0), till, #r.purpose, r.purpose, #r.facts, r.facts)
end

-- Schedules the poll for the receipt of a message. {P}:r<minute> lists the messages to poll for in a minute since 1970, the one that
-- begins at `due` or next: I6 completed at, c16 recipient, c17 request. {P}:due is a sorted set of the minutes that have a list.
local function expect_receipt(prefix, recipient, request, completed_at, due, now)
  local minute = ceil(due / 60000)
  local bucket = prefix .. 'r' .. decimal(minute)
  if call('RPUSH', bucket, pack('>I6c16c17', completed_at, recipient, request)) > 1 then return end
  call('PEXPIRE', bucket, decimal(max(0, minute * 60000 - now) + 2 * DAY))
  local is_listed, problem = pcall(call, 'ZADD', prefix .. 'due', decimal(minute), decimal(minute))
  if is_listed then return end
  -- The step is repeated, and must find an empty list again.
  server_call('DEL', bucket)
  error(problem)
end

-- False: a lookup found the message, and another request has claimed it.
local function claim_at_completion(c, keys, prefix, recipient, request, message_id, found_by_lookup, now)
  if found_by_lookup == 1 then
    local claims = {}
    local sends = read_recipient(keys[1], call('GET', keys[1])).sends
    each_sent_request(prefix, recipient, sends, now - DAY, now, function(other, _, is_read, record)
      if is_read and record then add_recorded_claim(claims, other, record, c.outcome_kept, now) end
    end)
    local claimant = claimed_by(prefix, recipient, claims, message_id, now)
    if claimant and claimant ~= request then return false end
  end
  set_claim(prefix, recipient, message_id, request, now)
  return true
end

local function complete(keys, args)
  local c = settings_of(args[1])
  local token, kept, nothing_sent, attempts, refund, poll_after, found_by_lookup, id_is_known, message_id, id_text, suppression,
    price, outcome_at = read('>c8I4BHBI6BBHc0Bc0Hc0Bc0', args[2])
  poll_after = poll_after ~= 0 and poll_after - 1
  local outcome = sub(args[2], outcome_at)
  local now, prefix = clock(c.test_time), prefix_of(keys[1])
  local recipient, request = sub(keys[1], -16), sub(keys[2], -17)
  local at_plain_key = call('GET', keys[2])
  local record, key, is_plain_key_taken = find_record(keys[2], at_plain_key, recipient)
  local state, lease_token, kept_until, receipt, rest_at
  local recorded_charges, is_refunded = '', false
  if record then
    state, lease_token, kept_until, receipt, rest_at, recorded_charges, is_refunded = read_common(record)
    if kept_until <= now then record, recorded_charges, is_refunded = nil, '', false end
  end
  local function answer(text) return args[3] and charges.before(recorded_charges, is_refunded, text) or text end
  local function recorded(time_since) return answer(args[3] and pack('>c1I6', 'r', time_since) or 'r') end
  local unnamed, admitted_at, asked_at = '', nil, nil
  if record then
    if state == COMPLETED then
      if lease_token == token then return recorded(max(0, now + kept - kept_until)) end
      return answer('a' .. sub(record, rest_at))
    end
    local _, _, attempt_started_at, attempts_in_doubt, _, recorded_admission = read('>I6HI6HHI6', record, rest_at)
    admitted_at, asked_at = recorded_admission, attempt_started_at
    if nothing_sent == 1 then
      -- Only a handler that has the lease and knows of the last attempt can say that nothing was sent.
      local r = read_progress(record, recipient)
      if lease_token ~= token or attempts_in_doubt ~= 0 or not attempts_are_current(r, attempts, false) then return answer('o') end
    -- A good send has no unnamed message, so its record is read no further.
    elseif attempts_in_doubt + (state == SENDING and 1 or 0) > id_is_known then
      unnamed = unnamed_at_completion(record, recipient, id_is_known, now)
    end
  else
    receipt = ''
    if nothing_sent == 0 then unnamed = unnamed_at_completion(nil, recipient, id_is_known, now) end
    local kept_px
    key, kept_px = choose_record_key(c, keys[2], at_plain_key, recipient, c.outcome_px, now)
    if id_text ~= '' then call('SET', prefix .. 't' .. request, id_text, 'PX', decimal(3 * DAY)) end
  end
  local reservation
  recorded_charges, reservation = reports.spend.split_charges(recorded_charges)
  local spend = reports.spend.ending(keys[1], reservation, price, nothing_sent, now)
  local s = (refund ~= REFUND.none or suppression ~= '') and read_recipient(keys[1], call('GET', keys[1]))
  local charged = refund ~= REFUND.none and read_charged_logs(c, keys, 3)
  -- A record shows its claim while the recipient's send log lists the request: not if the record is new, if the charge is refunded,
  -- or if the entry leaves the log before the claim ends. The claim's end follows from `outcome_kept`.
  local record_shows_claim = message_id ~= '' and found_by_lookup == 0 and record and refund == REFUND.none
    and kept == c.outcome_kept and now - admitted_at <= DAY - CLAIM_KEPT
  if message_id ~= '' and not record_shows_claim then
    if not claim_at_completion(c, keys, prefix, recipient, request, message_id, found_by_lookup, now) then return answer('m') end
  end
  local changed = refund ~= REFUND.none
  if suppression ~= '' then
    local target, code, duration, masked_at = read('>BI4I6', suppression)
    if target == countries.TARGET then
      suppress_country(keys[#keys], code, duration, now)
    elseif opts.still_holds(prefix, recipient, code, duration, asked_at) then
      changed = suppress_recipient(prefix, recipient, s, code, duration, now, sub(suppression, masked_at)) or changed
    end
  end
  if message_id ~= '' and poll_after then
    expect_receipt(prefix, recipient, request, now, now + poll_after, now)
  end
  is_refunded = refund ~= REFUND.none
  local completed = pack_completed(recipient, token, now + kept, receipt, record_shows_claim and 1 or 0, message_id, unnamed, outcome)
  call('SET', key, charges.add(completed, recorded_charges, is_refunded), 'PX', c.outcome_px)
  if is_plain_key_taken then call('PEXPIRE', keys[2], c.outcome_px, 'GT') end
  if refund == REFUND.full_and_counted then s.refunds = append(s.refunds, REQUEST_ENTRY_BYTES, request, DAY, now, c.entries_max) end
  if refund ~= REFUND.none then
    s.sends = without(s.sends, REQUEST_ENTRY_BYTES, request)
    if admitted_at then refund_subject_logs(c, keys, 3, charged, admitted_at) end
    s.unsent = append(s.unsent, REQUEST_ENTRY_BYTES, request, DAY, now, c.recent_max)
  end
  if changed then write_recipient(keys[1], s, c.window, now) end
  reports.spend.finish(spend)
  return recorded(0)
end
