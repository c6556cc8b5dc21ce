-- Overdue receipts: takes messages to poll for, and schedules the next poll so that the time since the send doubles.
-- KEYS     expected receipts; the keys of the records follow from its members
-- ARGV     now, longest wait since the send, how many at most, shortest interval between two polls, prefix of all keys
-- Answers  a line each: due|lapsed MESSAGE_ID RECIPIENT SENT_AT REQUEST_ID
--          lapsed: the longest wait is over, and the message is not handed out again
local expected_receipts = KEYS[1]
local now, wait_max, count_max, interval_min, prefix = unpack(ARGV)
now = clock(now)
local overdue = {}
for _, member in ipairs(redis.call('ZRANGE', expected_receipts, '-inf', decimal(now), 'BYSCORE', 'LIMIT', 0, count_max)) do
  local recipient, sent_at, request_id = string.match(member, '^%S+ (%x+) (%d+) (%S+)$')
  local is_read, r = pcall(function()
    return read_record(redis.call('GET', prefix .. ':' .. recipient .. ':req:' .. request_id), now)
  end)
  -- A message is not polled for if its member or its record cannot be read.
  if not is_read then r, sent_at = nil, now end
  local its = r and r.state == 'ended' and string.match(r.rest, '"provider_message_id":"([^"]*)"')
  if not its then r = nil end
  local waited = math.max(0, now - sent_at)
  local is_lapsed = waited >= tonumber(wait_max)
  local needs_no_poll = not r or select(4, receipt_of(r)) == '1'
  if needs_no_poll or is_lapsed then
    redis.call('ZREM', expected_receipts, member)
  else
    redis.call('ZADD', expected_receipts, decimal(math.ceil((now + math.max(waited, tonumber(interval_min))) / 60000) * 60000), member)
  end
  if not needs_no_poll then overdue[#overdue + 1] = (is_lapsed and 'lapsed ' or 'due ') .. its .. string.match(member, ' .*$') end
end
return table.concat(overdue, '\n')
