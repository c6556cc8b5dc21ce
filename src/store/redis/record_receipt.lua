-- Receipt: records a status that the provider reports, if it adds something to the record.
-- KEYS     record, suppression
-- ARGV     now, message, rank, status, is final, was published, code, suppression: code, duration, masked recipient
-- Answers  in_progress PURPOSE HISTORY | completed OUTCOME   publish the delivery event
--          unchanged | no_request
local record, suppression = unpack(KEYS)
local now, message, rank, status, is_final, published, code, suppression_code, suppression_duration, masked = unpack(ARGV)
now = clock(now)
local r = message ~= '-' and read_record(redis.call('GET', record), now)
-- The receipts of a request suppress once for a time (1) and once without an end (2). A repeated receipt must not undo an
-- operator's removal.
local suppressed_before = r and string.match(r.receipt, '^[^,]+,%d+,[^,]+,%d,[^,]+,%d+,(%d)$') or '0'
local suppressed = suppression_code == '-' and '0' or suppression_duration == '-' and '2' or '1'
local is_stronger = suppressed > suppressed_before
if is_stronger then
  suppress(suppression, suppression_code, suppression_duration, now, masked)
else
  suppressed = suppressed_before
end
if not r then return 'no_request' end

local function write(receipt)
  local line = {r.state, r.owner, r.kept_until, receipt .. ',' .. suppressed, r.rest}
  redis.call('SET', record, table.concat(line, ' '), 'KEEPTTL')
end

local recorded_message, recorded_rank, recorded_status, recorded_published = receipt_of(r)
local arrived = { delivered = true, read = true }
-- A request may have two messages, after a resend. The one that arrived counts.
local other_arrived = arrived[status] and recorded_message ~= message and not arrived[recorded_status or 'read']
published = published == '1' and is_final == '1' and '1' or '0'
if not recorded_rank or other_arrived or tonumber(recorded_rank) < tonumber(rank) then
  write(table.concat({message, rank, status, published, code, ms(now)}, ','))
else
  local recorded = string.match(r.receipt, '^[^,]+,%d+,[^,]+,%d,[^,]+,%d+')
  local is_unpublished = recorded_status == status and recorded_published ~= '1'
  if is_unpublished and published == '1' then
    write((string.gsub(recorded, '^([^,]+,[^,]+,[^,]+),0', '%1,1')))
  elseif is_stronger then
    write(recorded)
  end
  if not is_unpublished then return 'unchanged' end
end
if is_final ~= '1' or published == '1' then return 'unchanged' end
if r.state == 'ended' then return 'completed ' .. r.rest end
read_progress(r)
return table.concat({'in_progress', r.purpose, r.history}, ' ')
