-- Completion: records the first outcome of a request, its refund, message claim, expected receipt and suppression. The record
-- comes last of what can fail, and what comes before can be repeated: a step that stopped at damaged data does the rest later.
-- KEYS     recipient, request, then the shared logs if charges are refunded, then the country if its suppression begins
-- ARGV     settings; call: c8 token of the lease, I4 how long the outcome is kept, B nothing was sent, H attempts that the handler
--          knows of, B refund (0 none, 1 uncounted, 2 counted: after the provider's refusal), I6 poll for the receipt after (one
--          more; 0: none is expected), B found by a lookup (another request may have claimed the message), B the outcome has
--          the id under which a lookup lists the message, Hc0 message id or none, Bc0 text of the request id, none for a UUID,
--          Hc0 suppression or none: B 1 of the recipient, 2 of the country, I4 provider code, I6 duration (NO_END: without end),
--          then the masked recipient; then the outcome
-- Answers  r: recorded | a COMPLETION: already completed so, which stays | m: another request has claimed the message |
--          o: not the owner (the handler cannot say that nothing was sent)

-- The request's messages whose ids are not known: their number, their times and their code.
local function unnamed_at_completion(line, recipient, id_is_known, now)
  if not line then
    if id_is_known == 1 then return '' end
    return pack('>HI6I6BB', 1, max(0, now - CLAIM_KEPT), now, 0, 0)
  end
  local r = read_progress(line, recipient)
  local count, from, till = possible_messages(r, now)
  -- The outcome has the id of the last attempt's message; the earlier attempts ended before that one began.
  if id_is_known == 1 and r.state == SENDING then till = r.started_at end
  if count - id_is_known <= 0 then return '' end
  return pack('>HI6I6Bc0Bc0', count - id_is_known, max(from, 0), till, #r.purpose, r.purpose, #r.facts, r.facts)
end

-- Puts a message where the poll for its receipt is due: in the list of the minute that begins then or later.
local function expect_receipt(prefix, recipient, request, sent_at, due, now)
  local minute = ceil(due / 60000)
  local bucket = prefix .. 'r' .. decimal(minute)
  if call('RPUSH', bucket, pack('>I6c16c17', sent_at, recipient, request)) > 1 then return end
  call('PEXPIRE', bucket, decimal(max(0, minute * 60000 - now) + 2 * DAY))
  local is_listed, problem = pcall(call, 'ZADD', prefix .. 'due', decimal(minute), decimal(minute))
  if is_listed then return end
  -- The step is repeated, and must find an empty list again.
  server_call('DEL', bucket)
  error(problem)
end

local function claim_at_completion(c, keys, prefix, recipient, request, message_id, found, now)
  if found == 1 then
    local claims = {}
    each_sent_request(prefix, recipient, read_recipient(keys[1], call('GET', keys[1])).sends, now - DAY, now, function(other, _, is_read, line)
      if is_read and line then add_recorded_claim(claims, other, line, c.outcome_kept, now) end
    end)
    local claimant = claimed_by(prefix, recipient, claims, message_id, now)
    if claimant and claimant ~= request then return false end
  end
  set_claim(prefix, recipient, message_id, request, now)
  return true
end

local function complete(keys, args)
  local c = settings_of(args[1])
  local token, kept, nothing_sent, attempts, refund, poll_after, found, id_is_known, message_id, text, suppression, outcome_at =
    read('>c8I4BHBI6BBHc0Bc0Hc0', args[2])
  local outcome = sub(args[2], outcome_at)
  local now, prefix = clock(c.test_time), prefix_of(keys[1])
  local recipient, request = sub(keys[1], -16), sub(keys[2], -17)
  local stood = call('GET', keys[2])
  local line, key, is_shared = find_record(keys[2], stood, recipient)
  local state, owner, kept_until, receipt, rest
  if line then
    state, owner, kept_until, receipt, rest = read_head(line)
    if kept_until <= now then line = nil end
  end
  local unnamed, admitted_at = '', nil
  if line then
    if state == COMPLETED then
      if owner == token then return 'r' end
      return 'a' .. sub(line, rest)
    end
    local _, _, _, attempts_in_doubt, _, its_admission = read('>I6HI6HHI6', line, rest)
    admitted_at = its_admission
    if nothing_sent == 1 then
      -- Only a handler that has the lease and knows of the last attempt can say that nothing was sent.
      local r = read_progress(line, recipient)
      if owner ~= token or attempts_in_doubt ~= 0 or not knows_last_attempt(r, attempts, false) then return 'o' end
    elseif attempts_in_doubt + (state == SENDING and 1 or 0) > id_is_known then
      unnamed = unnamed_at_completion(line, recipient, id_is_known, now)
    end
  else
    receipt = ''
    if nothing_sent == 0 then unnamed = unnamed_at_completion(nil, recipient, id_is_known, now) end
    local kept_px
    key, kept_px = place_record(c, keys[2], stood, recipient, c.outcome_px, now)
    if text ~= '' then call('SET', prefix .. 't' .. request, text, 'PX', decimal(3 * DAY)) end
  end
  local claims_it = message_id ~= '' and 1 or 0
  local s = (refund ~= 0 or suppression ~= '') and read_recipient(keys[1], call('GET', keys[1]))
  local charged = refund ~= 0 and read_charged(c, keys, 3)
  if message_id ~= '' then
    -- The record cannot show the claim of a send that is not, or soon no longer, in the recipient's log.
    if found == 1 or not line or refund ~= 0 or kept ~= c.outcome_kept or now - admitted_at > DAY - CLAIM_KEPT then
      claims_it = 0
      if not claim_at_completion(c, keys, prefix, recipient, request, message_id, found, now) then return 'm' end
    end
  end
  local changed = refund ~= 0
  if suppression ~= '' then
    local target, code, duration, masked = read('>BI4I6', suppression)
    if target == 2 then
      suppress_country(keys[#keys], code, duration, now)
    else
      changed = suppress_recipient(prefix, recipient, s, code, duration, now, sub(suppression, masked)) or changed
    end
  end
  if message_id ~= '' and poll_after ~= 0 then
    expect_receipt(prefix, recipient, request, now, now + poll_after - 1, now)
  end
  call('SET', key, completed(recipient, token, now + kept, receipt, claims_it, message_id, unnamed, outcome), 'PX', c.outcome_px)
  if is_shared then call('PEXPIRE', keys[2], c.outcome_px, 'GT') end
  if refund == 2 then s.refunds = append(s.refunds, REQUEST_ENTRY, request, DAY, now, c.entries_max) end
  if refund ~= 0 then
    s.sends = without(s.sends, REQUEST_ENTRY, request)
    if admitted_at then refund_shared(c, keys, 3, charged, admitted_at) end
    s.unsent = append(s.unsent, REQUEST_ENTRY, request, DAY, now, c.recent_max)
  end
  if changed then write_recipient(keys[1], s, c.window, now) end
  return 'r'
end
