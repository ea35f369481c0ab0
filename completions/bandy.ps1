# bandy: completion for PowerShell
$env:COMPLETE = "powershell"; bandy | Out-String | Invoke-Expression; Remove-Item Env:\COMPLETE
