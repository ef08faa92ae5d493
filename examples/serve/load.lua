-- For wrk: POST the lines of a file of JSON bodies in turn, at random moments if a mean pause is given.
--
--   BODIES=bodies.jsonl PAUSE_MS=40 wrk -t1 -c8 -d60s --latency -s load.lua http://127.0.0.1:8000/classify
--
-- PAUSE_MS: the mean pause of a connection before its next request, in milliseconds; without it there is no pause.

local bodies, place, statuses = {}, 0, {}
local pause = tonumber(os.getenv("PAUSE_MS") or "0")
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init()
  for line in io.lines(os.getenv("BODIES")) do
    table.insert(bodies, line)
  end
  math.randomseed(1)
  place = math.random(#bodies)
  counts = ""
end

function request()
  place = place % #bodies + 1
  return wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, bodies[place])
end

function delay()
  if pause == 0 then
    return 0
  end
  -- exponential, so that the requests of many connections come as from a Poisson process
  return -pause * math.log(1 - math.random())
end

function response(status)
  statuses[status] = (statuses[status] or 0) + 1
  counts = ""
  for each, count in pairs(statuses) do
    counts = counts .. " " .. each .. ":" .. count
  end
end

function done()
  for _, thread in ipairs(threads) do
    print("statuses" .. thread:get("counts"))
  end
end
