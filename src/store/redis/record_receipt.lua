-- What the provider reports of a message. Only what says more than is known changes anything.
-- KEYS  record, block
local now, message, rank, status, is_final, told, code, block_code, block_lasts, block_shown = unpack(ARGV)
now = clock(now)
local r = message ~= '-' and read(redis.call('GET', KEYS[1]), now)
-- Reports of a request block for a time once, and for good once: what a person has lifted since stays so when one comes
-- again.
local blocked = r and string.match(r.receipt, '^[^,]+,%d+,[^,]+,%d,[^,]+,%d+,(%d)$') or '0'
local blocks = block_code == '-' and '0' or block_lasts == '-' and '2' or '1'
local is_new_block = blocks > blocked
if is_new_block then
  blocked = blocks
  block(KEYS[2], block_code, block_lasts, now, block_shown)
end
if not r then return 'none' end

local function write(receipt)
  redis.call('SET', KEYS[1], table.concat({r.state, r.owner, r.till, receipt .. ',' .. blocked, r.rest}, ' '), 'KEEPTTL')
end

local known_message, known_rank, known_status, was_told = report(r)
local arrived = { delivered = true, read = true }
-- Of two messages of a request the one that arrived counts.
local other_arrived = arrived[status] and known_message ~= message and not arrived[known_status or 'read']
told = told == '1' and is_final == '1' and '1' or '0'
if not known_rank or other_arrived or tonumber(known_rank) < tonumber(rank) then
  write(table.concat({message, rank, status, told, code, ms(now)}, ','))
else
  local known = string.match(r.receipt, '^[^,]+,%d+,[^,]+,%d,[^,]+,%d+')
  local is_untold = known_status == status and was_told ~= '1'
  if is_untold and told == '1' then
    write((string.gsub(known, '^([^,]+,[^,]+,[^,]+),0', '%1,1')))
  elseif is_new_block then
    write(known)
  end
  if not is_untold then return 'known' end
end
if is_final ~= '1' or told == '1' then return 'known' end
if r.state == 'ended' then return 'ended ' .. r.rest end
unfold(r)
return table.concat({'live', r.purpose, r.notes}, ' ')
