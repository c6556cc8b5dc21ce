-- Receipt: records a status that the provider reports, if it adds something to the record.
-- KEYS     record, suppression (the recipient's or its country's)
-- ARGV     now, message id ('-' if it is not one word: then no_request), rank of the status, status, is final (0 or 1), was published (1: the delivery event was
--          published before), provider code or '-', then of the suppression that the receipt causes: provider code,
--          duration ('-': without end), masked recipient; '-' each without one
-- Answers  in_progress PURPOSE HISTORY | completed OUTCOME: publish the delivery event, then record it as published
--          nothing_to_publish | no_request (it has no record)
local record, suppression = unpack(KEYS)
local now, message_id, rank, status, is_final, published, provider_code = unpack(ARGV, 1, 7)
local suppression_provider_code, suppression_duration, masked = unpack(ARGV, 8, 10)
now = clock(now)
local r = message_id ~= '-' and read_record(redis.call('GET', record), now)
-- Without a record a repeat cannot be recognised, so nothing is suppressed.
if not r then return 'no_request' end
if r.state ~= 'ended' then read_progress(r) end
-- The last field of a receipt is its suppression strength: 0 it has not suppressed, 1 for a time, 2 without an end. A receipt
-- suppresses only if that grows: a repeated one must not undo an operator's removal.
local recorded_strength = string.match(r.receipt, '^[^,]+,%d+,[^,]+,%d,[^,]+,%d+,(%d)$') or '0'
local strength = suppression_provider_code == '-' and '0' or suppression_duration == '-' and '2' or '1'
local is_stronger = strength > recorded_strength
if is_stronger then
  suppress(suppression, suppression_provider_code, suppression_duration, now, masked)
else
  strength = recorded_strength
end

local function write(receipt)
  local line = {r.state, r.owner, r.kept_until, receipt .. ',' .. strength, r.rest}
  redis.call('SET', record, table.concat(line, ' '), 'KEEPTTL')
end

local recorded_message_id, recorded_rank, recorded_status, recorded_published = receipt_of(r)
local arrived = { delivered = true, read = true }
-- After a resend a request may have two messages. The receipt of the one that arrived replaces the other's.
local other_arrived = arrived[status] and recorded_message_id ~= message_id
  and recorded_status and not arrived[recorded_status]
published = published == '1' and is_final == '1' and '1' or '0'
if not recorded_rank or other_arrived or tonumber(recorded_rank) < tonumber(rank) then
  write(table.concat({message_id, rank, status, published, provider_code, decimal(now)}, ','))
else
  local recorded = string.match(r.receipt, '^[^,]+,%d+,[^,]+,%d,[^,]+,%d+')
  local is_unpublished_repeat = recorded_status == status and recorded_published ~= '1'
  if is_unpublished_repeat and published == '1' then
    write((string.gsub(recorded, '^([^,]+,[^,]+,[^,]+),0', '%1,1')))
  elseif is_stronger then
    write(recorded)
  end
  if not is_unpublished_repeat then return 'nothing_to_publish' end
end
if is_final ~= '1' or published == '1' then return 'nothing_to_publish' end
if r.state == 'ended' then return 'completed ' .. r.rest end
return table.concat({'in_progress', r.purpose, r.history}, ' ')
