-- Asks for the narinfos of a file one after the other; each thread begins elsewhere.
local paths = {}
for line in io.lines(os.getenv("BENCH_NARINFOS")) do
    paths[#paths + 1] = line
end
local next = math.random(#paths)
request = function()
    next = next % #paths + 1
    return wrk.format("GET", paths[next])
end
