-- Sends every stable study to Pacsight, its own results excepted; sends again what failed.
--
-- Settings: the section "Pacsight" of orthanc.json. Works with Orthanc 1.10 and newer.
--
-- A series is marked with the number of its instances once Pacsight has acknowledged them all, so
-- that a study which becomes stable again because results came back is not sent again. The mark
-- only saves time: Pacsight recognises identical instances and they change nothing.

local settings = GetOrthancConfiguration()['Pacsight'] or {}
local MODALITY = settings['Modality'] or 'pacsight'
local ENABLED = settings['Forward'] == 'yes'
local RETRY_S = tonumber(settings['RetrySeconds'] or 30)
local CATCH_UP = tonumber(settings['CatchUpChanges'] or 2000)
local MARK = 'ForwardedToPacsight'

-- What Pacsight and other software derive from images is not for analysis.
local DERIVED = {
  SR = true, SEG = true, PR = true, KO = true, DOC = true, REG = true, FID = true,
  RTSTRUCT = true, RTPLAN = true, RTDOSE = true, AU = true, PLAN = true
}

local resultAeTitles = {}
for _, title in pairs(settings['ResultAeTitles'] or {}) do
  resultAeTitles[title] = true
end

local counts = {}    -- job -> series -> instances, of the jobs that were started here
local lookedAt = 0   -- when failed jobs were looked for last

local function metadata(path, name)
  for _, known in pairs(ParseJson(RestApiGet(path .. '/metadata'))) do
    if known == name then
      return RestApiGet(path .. '/metadata/' .. name)
    end
  end
  return nil
end

local function isWanted(seriesId, series)
  local modality = (series['MainDicomTags'] or {})['Modality'] or ''
  if DERIVED[modality] or #series['Instances'] == 0 then
    return false
  end
  local sender = metadata('/instances/' .. series['Instances'][1], 'RemoteAET')
  if sender and resultAeTitles[sender] then
    return false
  end
  return metadata('/series/' .. seriesId, MARK) ~= tostring(#series['Instances'])
end

local function forward(studyId)
  local study = ParseJson(RestApiGet('/studies/' .. studyId))
  local wanted, instances = {}, {}
  for _, seriesId in pairs(study['Series']) do
    local series = ParseJson(RestApiGet('/series/' .. seriesId))
    if isWanted(seriesId, series) then
      table.insert(wanted, seriesId)
      instances[seriesId] = #series['Instances']
    end
  end
  if #wanted == 0 then
    return
  end
  local answer = RestApiPost('/modalities/' .. MODALITY .. '/store', DumpJson({
    Resources = wanted, Synchronous = false, Permissive = false
  }))
  local job = ParseJson(answer)['ID']
  counts[job] = instances
  print('pacsight: study ' .. studyId .. ', ' .. #wanted .. ' series, job ' .. job)
end

-- Orthanc does not retry by itself. Jobs are kept over a restart (SaveJobs), so failures are found
-- in the job list, not remembered here. Orthanc 1.11.1 and newer look with every heartbeat; older
-- ones have none and look when the next study is stable or sent, and when they start.
local function retryFailed()
  local now = os.time()
  if now - lookedAt < RETRY_S then
    return
  end
  lookedAt = now
  for _, job in pairs(ParseJson(RestApiGet('/jobs?expand'))) do
    local remote = (job['Content'] or {})['RemoteAet']
    if job['State'] == 'Failure' and job['Type'] == 'DicomModalityStore'
        and resultAeTitles[remote] then
      print('pacsight: job ' .. job['ID'] .. ' failed, again')
      RestApiPost('/jobs/' .. job['ID'] .. '/resubmit', '')
    end
  end
end

function OnStableStudy(studyId, tags, metadata)
  if ENABLED then
    forward(studyId)
    retryFailed()
  end
end

function OnJobSuccess(jobId)
  for seriesId, instances in pairs(counts[jobId] or {}) do
    RestApiPut('/series/' .. seriesId .. '/metadata/' .. MARK, tostring(instances))
  end
  if counts[jobId] then
    counts[jobId] = nil
    retryFailed()
  end
end

-- Orthanc forgets at a restart which studies were not stable yet: look at the newest changes.
local function catchUp()
  local last = ParseJson(RestApiGet('/changes?last'))['Last']
  local since = math.max(0, last - CATCH_UP)
  local seen = {}
  local changes = ParseJson(RestApiGet('/changes?since=' .. since .. '&limit=' .. CATCH_UP))
  for _, change in pairs(changes['Changes']) do
    if change['ChangeType'] == 'NewInstance' then
      local found = RestApiGet(change['Path'] .. '/study')
      local study = found and found ~= '' and ParseJson(found)
      if study and study['IsStable'] and not seen[study['ID']] then
        seen[study['ID']] = true
        forward(study['ID'])
      end
    end
  end
end

function Initialize()
  if ENABLED then
    catchUp()
    retryFailed()
  end
end

function OnHeartBeat()
  if ENABLED then
    retryFailed()
  end
end
