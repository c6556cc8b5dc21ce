-- Completion: records the first outcome of a request, its refund, message claim, expected receipt and suppression.
-- KEYS     record, refunds, recent, claim, suppression, expected receipts, then the logs of sends as in admit.lua
-- ARGV     the three lists below; `attempts_if_unsent` is '-' unless the outcome says that nothing was sent
-- Answers  recorded | already_completed OUTCOME | not_owner | message_claimed
local record, refunds, recent, claim_key, suppression, expected_receipts, sends = unpack(KEYS, 1, 7)
local now, token, outcome, kept, attempts_if_unsent, refund, request, member, recent_max = unpack(ARGV, 1, 9)
local recipient, message, found_by_lookup, claim_kept, receipt_due, expected_receipts_kept = unpack(ARGV, 10, 15)
local suppression_code, suppression_duration, masked = unpack(ARGV, 16, 18)
now = clock(now)
local r = read_record(redis.call('GET', record), now)
if r then
  if r.state == 'ended' then return r.owner == token and 'recorded' or 'already_completed ' .. r.rest end
  -- Only the owner of the lease that knows the last attempt can know that nothing was sent.
  if attempts_if_unsent ~= '-' then
    read_progress(r)
    if r.owner ~= token or r.in_doubt ~= '0' or not knows_last_attempt(r, attempts_if_unsent, false) then
      return 'not_owner'
    end
  end
end
if message ~= '-' then
  local claim = ms(now + claim_kept) .. ' ' .. request
  local earlier = redis.call('SET', claim_key, claim, 'NX', 'GET', 'PX', claim_kept)
  if earlier then
    local claimed_until, claimed_by = string.match(earlier, '^(%S+) (%S+)$')
    local is_valid = tonumber(claimed_until) > now
    if is_valid and claimed_by ~= request and found_by_lookup == '1' then return 'message_claimed' end
    if not is_valid or claimed_by ~= request then redis.call('SET', claim_key, claim, 'PX', claim_kept) end
  end
  if receipt_due ~= '-' then
    redis.call('ZADD', expected_receipts, ms(now + receipt_due), table.concat({message, recipient, ms(now), request}, ' '))
    redis.call('PEXPIRE', expected_receipts, expected_receipts_kept)
  end
end
if suppression_code ~= '-' then suppress(suppression, suppression_code, suppression_duration, now, masked) end
local receipt = r and r.receipt or '-'
redis.call('SET', record, table.concat({'ended', token, ms(now + kept), receipt, outcome}, ' '), 'PX', kept)
if refund == 'counted' then append(refunds, request, DAY, now) end
if refund ~= 'none' then
  redis.call('ZREM', sends, request)
  -- Logs that recipients share have their own member for a request.
  for i = 8, #KEYS do redis.call('ZREM', KEYS[i], member) end
  remember_unsent(recent, request, recent_max, now)
end
return 'recorded'
