-- Completion: records the first outcome of a request, its refund, message claim, expected receipt and suppression.
-- KEYS     record, refunds, recent, claim, suppression, expected receipts, then the logs of sends as in admit.lua
-- ARGV     the lists below; `attempts_if_unsent` is '-' unless the outcome says that nothing was sent;
--          `refund` is none|uncounted|counted_refusal
-- Answers  recorded | already_completed OUTCOME | not_owner | message_claimed
local record, refunds, recent, claim_key, suppression, expected_receipts, sends = unpack(KEYS, 1, 7)
local now, token, outcome, kept, attempts_if_unsent, refund, request_id, shared_member, recent_max = unpack(ARGV, 1, 9)
local recipient, message_id, found_by_lookup, claim_kept = unpack(ARGV, 10, 13)
local poll_receipt_after, expected_receipts_kept, is_named = unpack(ARGV, 14, 16)
local suppression_provider_code, suppression_duration, masked = unpack(ARGV, 17, 19)
now = clock(now)
local r = read_record(redis.call('GET', record), now)
if r then
  if r.state == 'ended' then return r.owner == token and 'recorded' or 'already_completed ' .. r.rest end
  -- Only a handler that has the lease and knows of the last attempt can say that nothing was sent.
  if attempts_if_unsent ~= '-' then
    read_progress(r)
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
    read_progress(r)
    count, from, till = possible_messages(r, now)
    code = code_of(r)
    -- The other attempts ended before the one that is named.
    if is_named == '1' and r.state == 'sending' then till = r.started_at end
  end
  if is_named == '1' then count = count - 1 end
  if count > 0 then
    local unnamed = table.concat({decimal(count), decimal(math.max(from, 0)), decimal(till), code}, ' ')
    outcome = string.sub(outcome, 1, -2) .. ',"unnamed":"' .. unnamed .. '"}'
  end
end
redis.call('SET', record, table.concat({'ended', token, decimal(now + kept), receipt, outcome}, ' '), 'PX', kept)
if refund == 'counted_refusal' then append(refunds, request_id, DAY, now) end
if refund ~= 'none' then
  redis.call('ZREM', sends, request_id)
  -- The logs that recipients share name the request by `shared_member`.
  for i = 8, #KEYS do redis.call('ZREM', KEYS[i], shared_member) end
  remember_unsent(recent, request_id, recent_max, now)
end
return 'recorded'
