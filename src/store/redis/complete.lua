-- Completion: records the first outcome of a request, its refund, message claim, expected receipt and suppression.
-- KEYS     record, refunds (those after a provider's refusal), recent (requests without a send), claim of the message,
--          suppression (the recipient's or its country's), expected receipts,
--          then the logs of sends: the recipient's, the user's, the client IP's, its network's, and all
-- ARGV     the lists below, in their order. Flags are 0 or 1.
--          `token`: of the handler's lease. `outcome`: JSON. `attempts_if_unsent`: if the outcome says that nothing was sent,
--          the attempts that the handler knows of, else '-'. `refund`: none|uncounted|counted_refusal. `message_id`: of the
--          outcome, or '-'. `found_by_lookup`: another request may have claimed the message. `poll_receipt_after`: '-' if no
--          receipt is expected. `id_is_known`: the outcome has the id under which a lookup lists the message.
--          The last three: '-' each without a suppression; the duration is '-' without an end
-- Answers  recorded | already_completed OUTCOME (which stays) | message_claimed (by another request) |
--          not_owner (the handler cannot say that nothing was sent)
local record, refunds, recent, claim_key, suppression, expected_receipts, sends = unpack(KEYS, 1, 7)
local now, token, outcome, kept, attempts_if_unsent, refund, request_id, shared_member, recent_max = unpack(ARGV, 1, 9)
local recipient, message_id, found_by_lookup, claim_kept = unpack(ARGV, 10, 13)
local poll_receipt_after, expected_receipts_kept, id_is_known = unpack(ARGV, 14, 16)
local suppression_provider_code, suppression_duration, masked = unpack(ARGV, 17, 19)
now = clock(now)
local r = read_record(redis.call('GET', record), now)
if r then
  if r.state == 'ended' then return r.owner == token and 'recorded' or 'already_completed ' .. r.rest end
  read_progress(r)
  -- Only a handler that has the lease and knows of the last attempt can say that nothing was sent.
  if attempts_if_unsent ~= '-' then
    if r.owner ~= token or r.attempts_in_doubt ~= '0' or not knows_last_attempt(r, attempts_if_unsent, false) then
      return 'not_owner'
    end
  end
end
if message_id ~= '-' then
  local claim = decimal(now + claim_kept) .. ' ' .. request_id
  local earlier = redis.call('SET', claim_key, claim, 'NX', 'GET', 'PX', claim_kept)
  if earlier then
    local claimed_until, claimed_by = string.match(earlier, '^(%S+) (%S+)$')
    local is_valid = tonumber(claimed_until) > now
    if is_valid and claimed_by ~= request_id and found_by_lookup == '1' then return 'message_claimed' end
    if not is_valid or claimed_by ~= request_id then redis.call('SET', claim_key, claim, 'PX', claim_kept) end
  end
  if poll_receipt_after ~= '-' then
    local expected = table.concat({message_id, recipient, decimal(now), request_id}, ' ')
    redis.call('ZADD', expected_receipts, decimal(now + poll_receipt_after), expected)
    redis.call('PEXPIRE', expected_receipts, expected_receipts_kept)
  end
end
if suppression_provider_code ~= '-' then
  suppress(suppression, suppression_provider_code, suppression_duration, now, masked)
end
local receipt = r and r.receipt or '-'
-- The messages that the request may have and whose ids it does not know are kept with the outcome, as its last field:
-- their number, their times and their code. `claim_message.lua` reads it.
if attempts_if_unsent == '-' then
  local count, from, till, code = 1, now - claim_kept, now, '- - - - -'
  if r then
    count, from, till = possible_messages(r, now)
    code = code_of(r)
    -- The outcome has the id of the last attempt's message; the earlier attempts ended before that one began.
    if id_is_known == '1' and r.state == 'sending' then till = r.started_at end
  end
  if id_is_known == '1' then count = count - 1 end
  if count > 0 then
    local unnamed = table.concat({decimal(count), decimal(math.max(from, 0)), decimal(till), code}, ' ')
    outcome = string.sub(outcome, 1, -2) .. ',"unnamed":"' .. unnamed .. '"}'
  end
end
if refund == 'counted_refusal' then append(refunds, request_id, DAY, now) end
if refund ~= 'none' then
  redis.call('ZREM', sends, request_id)
  -- In the logs that recipients share, the member is a digest of recipient and request id.
  for i = 8, #KEYS do redis.call('ZREM', KEYS[i], shared_member) end
  remember_unsent(recent, request_id, recent_max, now)
end
-- Last: a step that fails at a damaged key does the rest when it is repeated.
redis.call('SET', record, table.concat({'ended', token, decimal(now + kept), receipt, outcome}, ' '), 'PX', kept)
return 'recorded'
