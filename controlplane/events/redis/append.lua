-- KEYS: stream, counters
-- ARGV: source, number of the first event, now (Unix ms), name for a new stream,
--       bytes to keep (0: all), time of the oldest event to keep (Unix ms, 0: all),
--       then the events' JSON
-- Returns: 1 if stored and 0 for a hole, the source's next number, the stream's
-- last number, the stream's name.
local stream, counters = KEYS[1], KEYS[2]
local source, first, now = 's:' .. ARGV[1], tonumber(ARGV[2]), ARGV[3]

local function int(n) return string.format('%.0f', n) end
local function seq(id) return tonumber(string.match(id, '^%d+')) end

local have = redis.call('HMGET', counters, 'last', 'bytes', 'gen', source)
local last, bytes, gen = tonumber(have[1]), tonumber(have[2]) or 0, have[3]
local known = tonumber(have[4]) or 0
local there = redis.call('EXISTS', stream) == 1

if last and not there then
  -- The stream was removed or evicted without its counters: all is lost, and
  -- each source must send again.
  redis.call('DEL', counters)
  last, bytes, gen, known = nil, 0, false, 0
elseif there and not last then
  -- The counters were removed or evicted without their stream: count again.
  local counts, from = {}, '-'
  last, gen = 0, ARGV[4]
  while true do
    local page = redis.call('XRANGE', stream, from, '+', 'COUNT', 500)
    for _, entry in ipairs(page) do
      local f = entry[2]
      counts['s:' .. f[2]] = f[4]
      bytes = bytes + #f[8]
      last = seq(entry[1])
      from = '(' .. entry[1]
    end
    if #page < 500 then break end
  end
  redis.call('HSET', counters, 'last', int(last), 'bytes', int(bytes), 'gen', gen)
  for name, n in pairs(counts) do redis.call('HSET', counters, name, n) end
  known = tonumber(counts[source]) or 0
end
last, gen = last or 0, gen or ''

if first > known + 1 then return {0, known + 1, last, gen} end
local skip = known + 1 - first
local count = #ARGV - 6 - skip
if count <= 0 then return {1, known + 1, last, gen} end

if gen == '' then gen = ARGV[4] end
local before = last
for i = 7 + skip, #ARGV do
  known, last, bytes = known + 1, last + 1, bytes + #ARGV[i]
  -- Fails where the stream is ahead of its counters, at the first event and so
  -- before anything is written.
  redis.call('XADD', stream, int(last) .. '-0', 's', ARGV[1], 'n', int(known), 't', now, 'e', ARGV[i])
end

-- Let go of the oldest, but of nothing in this batch, and of a bounded number so
-- that no append takes long.
local limit, oldest = tonumber(ARGV[5]), tonumber(ARGV[6])
if limit > 0 or oldest > 0 then
  local from, keep, page = '-', nil, 1
  for _ = 1, 8 do
    local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', page)
    local more = #entries == page
    for _, entry in ipairs(entries) do
      local f = entry[2]
      local over = (limit > 0 and bytes > limit) or tonumber(f[6]) < oldest
      if not over or seq(entry[1]) > before then more = false break end
      bytes = bytes - #f[8]
      keep = seq(entry[1]) + 1
      from = '(' .. entry[1]
    end
    if not more then break end
    page = 128
  end
  if keep then redis.call('XTRIM', stream, 'MINID', '=', int(keep) .. '-0') end
end

redis.call('HSET', counters, 'last', int(last), 'bytes', int(bytes), 'gen', gen, source, int(known))
return {1, known + 1, last, gen}
