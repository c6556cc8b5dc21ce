-- Claims: the request that a message of the provider belongs to. A completed request claims the message of its outcome by its
-- record, for CLAIM_KEPT after the completion. Where the record cannot show the claim (the message was found by a lookup, or the
-- request has no record or is refunded), a key does: {P}:m<recipient><message id>, I6 until, c17 request.
local CLAIM_KEPT = 7200000

local function claim_key(prefix, recipient, message_id) return prefix .. 'm' .. recipient .. message_id end

local function set_claim(prefix, recipient, message_id, request, now)
  call('SET', claim_key(prefix, recipient, message_id), pack('>I6c17', now + CLAIM_KEPT, request), 'PX', decimal(CLAIM_KEPT))
end

-- Calls `visit` with each request sent to a recipient since a time, its time, whether its record can be read, and the record or
-- nil.
local function each_sent_request(prefix, recipient, sends, since, now, visit)
  for at = 1, #sends, REQUEST_ENTRY_BYTES do
    local time, request = read('>I6c17', sends, at)
    if time >= since then
      local is_read, record = pcall(function()
        local key = prefix .. 'q' .. request
        local record = find_record(key, call('GET', key), recipient)
        if not record then return nil end
        local state, _, kept_until, _, rest_at = read_common(record)
        if state == COMPLETED then read(COMPLETED_FIELDS, record, rest_at) else read_progress(record, recipient) end
        return kept_until > now and record or nil
      end)
      visit(request, time, is_read, record)
    end
  end
end

-- Adds the claim that a completed record shows to `claims`, a table by message id.
local function add_recorded_claim(claims, request, record, outcome_kept, now)
  local state, _, kept_until, _, rest_at = read_common(record)
  if state ~= COMPLETED then return end
  local shows_claim, message_id = read(COMPLETED_FIELDS, record, rest_at)
  local till = kept_until - outcome_kept + CLAIM_KEPT
  if shows_claim == 1 and till > now then claims[message_id] = {request = request, till = till} end
end

-- The request that has claimed a message. The claim that ends later counts. At the same end the record's counts: a lookup never
-- claims a message that a record has claimed.
local function claimed_by(prefix, recipient, claims, message_id, now)
  local recorded = claims[message_id]
  local value = call('GET', claim_key(prefix, recipient, message_id))
  if not value then return recorded and recorded.request end
  local till, request = read('>I6c17', value)
  if till <= now or recorded and recorded.till >= till then return recorded and recorded.request end
  return request
end

-- Claim: finds the message of a request in doubt among those that a lookup listed, and claims it.
-- N: messages that other requests may have and have not claimed. If at most N of the listed are unclaimed, all may be theirs. If
-- more are, one is ours: number N+1 of the unclaimed if theirs are all older; otherwise we do not know which.
-- KEYS     recipient, request
-- ARGV     settings; call: c8 lease token, B a text is missing (1: a listed message has no text, so it may hold any
--          code), I4 clock difference at most (between the provider's clock and ours), H requests at most (with more to
--          read: ambiguous); then the ids of the listed messages, oldest first
-- Answers  c MESSAGE: claimed | u: one is ours, unnamed | a: all are claimed by others | n: ambiguous (at most N are unclaimed) |
--          o: the lease is not the handler's any more, or the request is completed

-- Digests compare only within one purpose and key. Beyond that, codes that we made count as different, and a caller's code
-- may equal any. Without code facts, because the record was lost, the code may be any, too.
local function may_be_same_code(purpose, facts, our_purpose, our_facts)
  if facts == '' then return true end
  local is_callers_code, id, digest, kid = read(CODE_FACTS, facts)
  local our_is_callers_code, our_id, our_digest, our_kid = read(CODE_FACTS, our_facts)
  if id == our_id then return true end
  if kid == our_kid and purpose == our_purpose then return digest == our_digest end
  return is_callers_code == 1 or our_is_callers_code == 1
end

-- The messages of another request that may be unclaimed: their number, the times of the first and the last, the purpose and the
-- code facts.
local function unnamed_messages(record, recipient, now)
  local state, _, _, _, rest_at = read_common(record)
  if state == COMPLETED then
    local _, _, unnamed = read(COMPLETED_FIELDS, record, rest_at)
    if unnamed == '' then return 0 end
    return read('>HI6I6Bc0Bc0', unnamed)
  end
  local r = read_progress(record, recipient)
  local count, from, till = possible_messages(r, now)
  return count, from, till, r.purpose, r.facts
end

local function claim_message(keys, args)
  local c = settings_of(args[1])
  local token, a_text_is_missing, clock_difference_max, requests_max = read('>c8BI4H', args[2])
  local now = clock(c.test_time)
  local recipient, request, prefix = sub(keys[1], -16), sub(keys[2], -17), prefix_of(keys[1])
  local record = find_record(keys[2], call('GET', keys[2]), recipient)
  if not record then return 'o' end
  local state, lease_token, kept_until = read_common(record)
  if kept_until <= now or state == COMPLETED or lease_token ~= token then return 'o' end
  local r = read_progress(record, recipient)
  local _, from = possible_messages(r, now)

  local s = read_recipient(keys[1], call('GET', keys[1]))
  local claims, others, unreadable, requests_read = {}, {}, false, 0
  each_sent_request(prefix, recipient, s.sends, now - DAY, now, function(other, time, is_read, other_record)
    -- No reconciliation lasts longer than a claim is kept.
    if time >= from - CLAIM_KEPT then
      requests_read = requests_read + 1
      unreadable = unreadable or not is_read
      if other ~= request and is_read and other_record then others[#others + 1] = {request = other, record = other_record} end
    end
    if is_read and other_record then add_recorded_claim(claims, other, other_record, c.outcome_kept, now) end
  end)
  -- Another request whose record cannot be read may have made any message.
  if requests_read > requests_max or unreadable then return 'n' end

  local their_messages, theirs_may_be_younger, ids_in_receipts = 0, false, {}
  for _, other in ipairs(others) do
    local is_done, count, since, till, purpose, facts = pcall(unnamed_messages, other.record, recipient, now)
    if not is_done then return 'n' end
    local other_state, _, _, receipt = read_common(other.record)
    -- A receipt tells the id of one of its messages, which is no longer unnamed: it is subtracted. If the request has claimed that
    -- message, completion has subtracted it already.
    if receipt ~= '' then
      local reported = read(RECEIPT, receipt)
      ids_in_receipts[reported] = true
      if claimed_by(prefix, recipient, claims, reported, now) ~= other.request then count = count - 1 end
    end
    if count > 0 and till + clock_difference_max >= from and since - clock_difference_max <= now
      and (a_text_is_missing == 1 or may_be_same_code(purpose, facts, r.purpose, r.facts)) then
      their_messages = their_messages + count
      theirs_may_be_younger = theirs_may_be_younger or other_state ~= COMPLETED or till > from
    end
  end

  local unclaimed = {}
  for i = 3, #args do
    local claimant = claimed_by(prefix, recipient, claims, args[i], now)
    if claimant == request then return 'c' .. args[i] end
    if not claimant and not ids_in_receipts[args[i]] then unclaimed[#unclaimed + 1] = args[i] end
  end
  if #unclaimed == 0 then return 'a' end
  if #unclaimed <= their_messages then return 'n' end
  if theirs_may_be_younger then return 'u' end
  local message_id = unclaimed[their_messages + 1]
  set_claim(prefix, recipient, message_id, request, now)
  return 'c' .. message_id
end
