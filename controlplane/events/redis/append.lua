-- KEYS: stream, counters
-- ARGV: source, number of the first event, now (Unix ms), name for a new stream,
--       bytes to keep (0: all), time of the oldest event to keep (Unix ms, 0: all),
--       the base (what of the job is archived, as JSON, or nothing), then for
--       each event the number of its source that it ends with, and its JSON
-- Returns: 1 if stored and 0 for a hole, the source's next number, the stream's
-- last number, the stream's name.
local stream, counters = KEYS[1], KEYS[2]
local source, first, now = 's:' .. ARGV[1], tonumber(ARGV[2]), ARGV[3]

local function int(n) return string.format('%.0f', n) end
local function seq(id) return tonumber(string.match(id, '^%d+')) end

local have = redis.call('HMGET', counters, 'last', 'bytes', 'gen', source, 'seed', 'fin')
local last, bytes, gen = tonumber(have[1]), tonumber(have[2]) or 0, have[3]
local known, seed = tonumber(have[4]) or 0, tonumber(have[5]) or 0
local there = redis.call('EXISTS', stream) == 1
local base = ARGV[7] ~= '' and cjson.decode(ARGV[7])

if base and (not last or last < base.last or (gen ~= (base.life or '') and seed < base.last)) then
  -- What is here is not what was archived, because it was lost or trimmed: go on
  -- after the archive.
  redis.call('DEL', stream, counters)
  last, bytes, gen, seed = base.last, 0, ARGV[4], base.last
  redis.call('HSET', counters, 'last', int(last), 'bytes', '0', 'gen', gen, 'seed', int(seed))
  for name, n in pairs(base.sources or {}) do redis.call('HSET', counters, 's:' .. name, int(n)) end
  known = (base.sources or {})[ARGV[1]] or 0
elseif last and not there and last > seed then
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

if first > known + 1 then
  if last > seed then
    -- Events were lost, and what comes again may stand in another order: the
    -- numbers of this life mean nothing in the next.
    gen = ARGV[4]
    redis.call('HSET', counters, 'gen', gen)
  end
  return {0, known + 1, last, gen}
end
if #ARGV < 9 or tonumber(ARGV[#ARGV - 1]) <= known then return {1, known + 1, last, gen} end

if gen == '' then gen = ARGV[4] end
local before = last
for i = 8, #ARGV, 2 do
  local number, data = tonumber(ARGV[i]), ARGV[i + 1]
  if number > known then
    known, last, bytes = number, last + 1, bytes + #data
    -- Fails where the stream is ahead of its counters, at the first event and so
    -- before anything is written.
    redis.call('XADD', stream, int(last) .. '-0', 's', ARGV[1], 'n', int(known), 't', now, 'e', data)
  end
end
if have[6] then -- the stream of a finished job was about to go
  redis.call('PERSIST', stream)
  redis.call('PERSIST', counters)
  redis.call('HDEL', counters, 'fin')
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
