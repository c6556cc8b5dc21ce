-- What the provider reports of a message. Only what says more than is known changes anything.
-- KEYS  record, block
local now, message, rank, status, is_final, told, code, block_code, block_lasts, block_shown = unpack(ARGV)
now = clock(now)
if block_code ~= '-' then block(KEYS[2], block_code, block_lasts, now, block_shown) end
local r = read(redis.call('GET', KEYS[1]), now)
if not r or message == '-' then return 'none' end

local function write(receipt)
  redis.call('SET', KEYS[1], table.concat({r.state, r.owner, r.till, receipt, r.rest}, ' '), 'KEEPTTL')
end

local known_message, known_rank, known_status, was_told = report(r)
local arrived = { delivered = true, read = true }
-- Of two messages of a request the one that arrived counts.
local other_arrived = arrived[status] and known_message ~= message and not arrived[known_status or 'read']
told = told == '1' and is_final == '1' and '1' or '0'
if not known_rank or other_arrived or tonumber(known_rank) < tonumber(rank) then
  write(table.concat({message, rank, status, told, code, ms(now)}, ','))
elseif known_status ~= status or was_told == '1' then
  return 'known'
elseif told == '1' then
  write((string.gsub(r.receipt, '^([^,]+,[^,]+,[^,]+),0', '%1,1')))
end
if is_final ~= '1' or told == '1' then return 'known' end
if r.state == 'ended' then return 'ended ' .. r.rest end
unfold(r)
return table.concat({'live', r.purpose, r.notes}, ' ')
