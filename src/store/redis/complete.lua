-- The end of a request. The first one said stays.
-- KEYS  record, sends, refunds, all, user, ip, recent, claim, block, receipts
local now, owner, outcome, kept, nothing_sent, refund, request, member, recent_max = unpack(ARGV, 1, 9)
local recipient, message, found, claim_kept, receipt_due, receipts_kept = unpack(ARGV, 10, 15)
local block_code, block_lasts, block_shown = unpack(ARGV, 16, 18)
now = clock(now)
local r = read(redis.call('GET', KEYS[1]), now)
if r then
  if r.state == 'ended' then return r.owner == owner and 'said' or 'before ' .. r.rest end
  -- Only who holds a request, and has made its last try, knows that nothing of it was sent.
  if nothing_sent ~= '-' then
    unfold(r)
    if r.owner ~= owner or r.doubts ~= '0' or not knows_last(r, nothing_sent, false) then return 'held' end
  end
end
if message ~= '-' then
  local claim = ms(now + claim_kept) .. ' ' .. request
  local before = redis.call('SET', KEYS[8], claim, 'NX', 'GET', 'PX', claim_kept)
  if before then
    local till, claimed_by = string.match(before, '^(%S+) (%S+)$')
    local stands = tonumber(till) > now
    if stands and claimed_by ~= request and found == '1' then return 'taken' end
    if not stands or claimed_by ~= request then redis.call('SET', KEYS[8], claim, 'PX', claim_kept) end
  end
  if receipt_due ~= '-' then
    redis.call('ZADD', KEYS[10], ms(now + receipt_due), table.concat({message, recipient, ms(now), request}, ' '))
    redis.call('PEXPIRE', KEYS[10], receipts_kept)
  end
end
if block_code ~= '-' then block(KEYS[9], block_code, block_lasts, now, block_shown) end
local receipt = r and r.receipt or '-'
redis.call('SET', KEYS[1], table.concat({'ended', owner, ms(now + kept), receipt, outcome}, ' '), 'PX', kept)
if refund == 'counted' then
  append(KEYS[3], request, DAY, now)
end
if refund ~= 'none' then
  redis.call('ZREM', KEYS[2], request)
  for i = 4, 6 do redis.call('ZREM', KEYS[i], member) end
  remember_unsent(KEYS[7], request, recent_max, now)
end
return 'said'
