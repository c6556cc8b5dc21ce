-- Overdue receipts: takes messages to poll for, and schedules the next poll so that the time since the send doubles. After
-- the longest wait it is the shortest interval.
-- KEYS     expected receipts; the keys of the records follow from its members
-- ARGV     now, longest wait since the send, how many at most, shortest interval between two polls, prefix of all keys, the
--          least rank of a final status
-- Answers  a line each: due|lapsed MESSAGE_ID RECIPIENT SENT_AT REQUEST_ID
--          lapsed: the longest wait is over, and no final receipt waits for its event to be published
local expected_receipts = KEYS[1]
local now, wait_max, count_max, interval_min, prefix, final_rank_min = unpack(ARGV)
now = clock(now)
local overdue = {}
for _, member in ipairs(redis.call('ZRANGE', expected_receipts, '-inf', decimal(now), 'BYSCORE', 'LIMIT', 0, count_max)) do
  local recipient, sent_at, request_id = string.match(member, '^%S+ (%x+) (%d+) (%S+)$')
  local is_read, r = pcall(function()
    return read_record(redis.call('GET', prefix .. ':' .. recipient .. ':req:' .. request_id), now)
  end)
  -- A message is not polled for if its member or its record cannot be read.
  if not is_read then r, sent_at = nil, now end
  local waited = math.max(0, now - sent_at)
  local is_over = waited >= tonumber(wait_max)
  local _, rank, _, published = receipt_of(r or {receipt = ''})
  if not r or published == '1' then
    redis.call('ZREM', expected_receipts, member)
  else
    local interval = is_over and tonumber(interval_min) or math.max(waited, tonumber(interval_min))
    redis.call('ZADD', expected_receipts, decimal(now + interval), member)
    local is_lapsed = is_over and tonumber(rank or 0) < tonumber(final_rank_min)
    overdue[#overdue + 1] = (is_lapsed and 'lapsed ' or 'due ') .. member
  end
end
return table.concat(overdue, '\n')
