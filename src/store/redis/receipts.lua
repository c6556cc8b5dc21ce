-- Receipt: records a status that the provider reports, if it adds something to the record.
-- KEYS     recipient, request, country whose suppression begins (a placeholder where unused; with more than one shard none: it has
--          begun)
-- ARGV     settings; call: B rank of the status (of one message, only a higher rank is news), B status, B is final, B was published
--          (the delivery event was published before), I4 provider code (0: none); message id (empty if the store cannot keep it:
--          then no request); suppression as in a completion, or empty
-- Answers  p PURPOSE HISTORY: publish the delivery event of a request in progress (Bc0, the rest) | e REST: publish that of a
--          completed one | k: nothing to publish | n: no request (it has no record)

-- Statuses that mean that the message arrived, as `DeliveryStatus::index` numbers them.
local STATUS_DELIVERED, STATUS_READ = 5, 9

local function means_arrived(status) return status == STATUS_DELIVERED or status == STATUS_READ end

-- A record with another receipt, which follows 31 bytes of common fields: recipient, state, lease token, kept until.
local function with_receipt(record, old_receipt, receipt)
  local rest = sub(record, BODY_AT + 33 + #old_receipt)
  return pack('>BI3c31Hc0c0', LAYOUT, 33 + #receipt + #rest, sub(record, BODY_AT, BODY_AT + 30), #receipt, receipt, rest)
end

-- When the provider was last asked to send, at the latest.
function receipts.asked_at(c, record, state, kept_until, rest_at)
  if state == COMPLETED then return max(0, kept_until - c.outcome_kept) end
  return select(3, read('>I6HI6', record, rest_at))
end

-- The message that a completed request names, if a receipt is of another one that the request may have, too.
function receipts.named_beside(record, state, rest_at, message_id)
  if state ~= COMPLETED then return end
  local _, named, unnamed = read(COMPLETED_FIELDS, record, rest_at)
  if unnamed ~= '' and named ~= '' and named ~= message_id then return named end
end

local function record_receipt(keys, args)
  local c = settings_of(args[1])
  local rank, status, is_final, published, code = read('>BBBBI4', args[2])
  local message_id, suppression = args[3], args[4]
  local now, prefix, recipient = clock(c.test_time), prefix_of(keys[1]), sub(keys[1], -16)
  local record, key = nil, nil
  if message_id ~= '' then record, key = find_record(keys[2], call('GET', keys[2]), recipient) end
  -- Without a record a repeat cannot be recognised, so nothing is suppressed.
  if not record then return 'n' end
  local state, _, kept_until, receipt, rest_at = read_common(record)
  if kept_until <= now then return 'n' end
  local recorded_id, recorded_rank, recorded_status, recorded_published, recorded_code, recorded_time
  local strength = 0
  if receipt ~= '' then
    recorded_id, recorded_rank, recorded_status, recorded_published, recorded_code, recorded_time, strength = read(RECEIPT, receipt)
  end
  -- The last field of a receipt is its suppression strength: 0 it has not suppressed, 1 for a time, 2 without an end. A receipt
  -- suppresses only if that grows: a repeated one must not undo an operator's removal.
  local new_strength, target, suppression_code, duration, masked_at = 0, nil, nil, nil, nil
  if suppression ~= '' then
    target, suppression_code, duration, masked_at = read('>BI4I6', suppression)
    new_strength = duration == NO_END and 2 or 1
  end
  local is_stronger = new_strength > strength
  if is_stronger then
    strength = new_strength
    if target == countries.TARGET then
      if keys[3] then suppress_country(keys[3], suppression_code, duration, now) end
    elseif opts.still_holds(prefix, recipient, suppression_code, duration, receipts.asked_at(c, record, state, kept_until, rest_at)) then
      local s = read_recipient(keys[1], call('GET', keys[1]))
      if suppress_recipient(prefix, recipient, s, suppression_code, duration, now, sub(suppression, masked_at)) then
        write_recipient(keys[1], s, c.window, now)
      end
    end
  end
  local function write(...)
    call('SET', key, with_receipt(record, receipt, pack(RECEIPT, ...)), 'KEEPTTL')
  end

  published = published == 1 and is_final == 1 and 1 or 0
  -- The other of two messages counts only if it arrived. A suppression is remembered beside the named one, which the provider accepted.
  local named = not means_arrived(status) and receipts.named_beside(record, state, rest_at, message_id)
  if named then
    if is_stronger and recorded_id then
      write(#recorded_id, recorded_id, recorded_rank, recorded_status, recorded_published, recorded_code, recorded_time, strength)
    elseif is_stronger then
      write(#named, named, 0, 0, 0, 0, now, strength)
    end
    return 'k'
  end
  -- After a resend a request may have two messages. The receipt of the one that arrived replaces the other's.
  local replaces_recorded = recorded_id and recorded_id ~= message_id
    and means_arrived(status) and not means_arrived(recorded_status)
  if not recorded_id or replaces_recorded or recorded_rank < rank then
    write(#message_id, message_id, rank, status, published, code, now, strength)
  else
    local is_unpublished_repeat = recorded_status == status and recorded_published == 0
    if is_unpublished_repeat and published == 1 then
      write(#recorded_id, recorded_id, recorded_rank, recorded_status, 1, recorded_code, recorded_time, strength)
    elseif is_stronger then
      write(#recorded_id, recorded_id, recorded_rank, recorded_status, recorded_published, recorded_code, recorded_time, strength)
    end
    if not is_unpublished_repeat then return 'k' end
  end
  if is_final ~= 1 or published == 1 then return 'k' end
  if state == COMPLETED then return 'e' .. sub(record, rest_at) end
  local r = read_progress(record, recipient)
  return pack('>c1Bc0', 'p', #r.purpose, r.purpose) .. r.history
end

-- Would a receipt suppress? Asked before the suppression of a country, which has another slot.
-- KEYS     recipient, request
-- ARGV     settings; B suppression strength of the receipt, then its message id
-- Answers  y | n
function shards.receipt_suppresses(keys, args)
  local now, strength = clock(settings_of(args[1]).test_time), read('B', args[2])
  local record = #args[2] > 1 and kept_record(keys[2], call('GET', keys[2]), sub(keys[1], -16), now)
  if not record then return 'n' end
  local _, _, _, receipt = read_common(record)
  local _, recorded
  if receipt ~= '' then _, _, _, _, _, _, recorded = read(RECEIPT, receipt) end
  return strength > (recorded or 0) and 'y' or 'n'
end

-- The record of a message to poll for, where its other fields begin, and the rank of its receipt. Nothing if the record is gone or of a
-- later request with the same id, or the delivery event was published.
function receipts.awaited(c, prefix, entry, now)
  local completed_at, recipient, request = read('>I6c16c17', entry)
  local name = prefix .. 'q' .. request
  local record = find_record(name, call('GET', name), recipient)
  if not record then return end
  local _, _, kept_until, receipt, rest_at = read_common(record)
  -- The times of a later request differ.
  local kept_for = kept_until - completed_at
  if kept_until <= now or kept_for ~= c.outcome_kept and kept_for ~= c.rejection_kept then return end
  local _, rank, published = nil, 0, 0
  if receipt ~= '' then _, rank, _, published = read(RECEIPT, receipt) end
  if published == 0 then return record, rest_at, rank end
end

-- Overdue receipts: takes messages to poll for, and schedules the next poll after as long as has passed since the completion. After
-- the longest wait: every shortest interval, until the worker ends the wait or publishes a recorded final receipt.
-- KEYS     {P}:due, the minutes that have messages
-- ARGV     settings; I6 longest wait since the completion, I4 how many at most, I4 shortest interval between two polls, B least rank of
--          a final status
-- Answers  of each: B lapsed (1: the longest wait is over, and no final receipt is recorded), c16
--          recipient, c17 request, Bc0 text of its id (empty for a UUID), Hc0 message id, I6 completed at
local function overdue_receipts(keys, args)
  local c = settings_of(args[1])
  local wait_max, count_max, interval_min, final_rank_min = read('>I6I4I4B', args[2])
  local now, prefix, overdue, taken = clock(c.test_time), sub(keys[1], 1, -1 - #'due'), {}, {}
  for _, minute in ipairs(call('ZRANGE', keys[1], '-inf', decimal(math.floor(now / 60000)), 'BYSCORE', 'LIMIT', 0, 100)) do
    if #taken >= count_max then break end
    local bucket = prefix .. 'r' .. minute
    for _, entry in ipairs(call('LPOP', bucket, count_max - #taken) or {}) do taken[#taken + 1] = entry end
    if call('EXISTS', bucket) == 0 then call('ZREM', keys[1], minute) end
  end
  for _, entry in ipairs(taken) do
    -- A message is not polled for if its entry or its record cannot be read.
    pcall(function()
      local completed_at, recipient, request = read('>I6c16c17', entry)
      local record, rest_at, recorded_rank = receipts.awaited(c, prefix, entry, now)
      if not record then return end
      local id_text = find_id_text(prefix, request)
      if not id_text then return end
      local waited = max(0, now - completed_at)
      local is_over = waited >= wait_max
      local lapsed = is_over and recorded_rank < final_rank_min and 1 or 0
      local message_id = select(2, read(COMPLETED_FIELDS, record, rest_at))
      expect_receipt(prefix, recipient, request, completed_at, now + (is_over and interval_min or max(waited, interval_min)), now)
      overdue[#overdue + 1] = pack('>Bc16c17Bc0Hc0I6', lapsed, recipient, request, #id_text, id_text, #message_id, message_id,
        completed_at)
    end)
  end
  return table.concat(overdue)
end

-- End of a wait: drops a message whose receipt lapsed, from the minute of its next poll, which is less than 3 minutes ahead.
-- KEYS     {P}:due, the minutes that have messages
-- ARGV     settings; the entry of the message
-- Answers  e: ended
local function end_receipt_wait(keys, args)
  local prefix, now = sub(keys[1], 1, -1 - #'due'), clock(settings_of(args[1]).test_time)
  for _, minute in ipairs(call('ZRANGE', keys[1], '-inf', decimal(now / 60000 + 3), 'BYSCORE')) do
    if call('LREM', prefix .. 'r' .. minute, 0, args[2]) > 0 then break end
  end
  return 'e'
end
