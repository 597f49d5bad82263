// SPDX-License-Identifier: Apache-2.0
async function showCapacity () {
  const config = await (await fetch('config.json')).json()
  const answer = await (await fetch(`${config.apiBase}?command=listCapacity`)).json()
  document.getElementById('used').textContent = `${answer.usedPercent} %`
}

showCapacity()
