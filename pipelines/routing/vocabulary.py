"""Words of other languages than English that vote for a task, as `tasks` has the English ones.

By task: what it counts, and words in lower case of German, French, Spanish, Italian, Portuguese and Russian (a line
each). Chinese and Japanese are written without spaces; what stands there for a word is looked for anywhere in the text.
Words that mean something else in English ("resume", "son") are left out, or stand in a phrase.

Above it: `tasks`. Below it: nothing.
"""

from collections.abc import Mapping

WORDS: Mapping[str, tuple[float, str]] = {
    "translation": (
        3.0,
        "übersetze übersetzen übersetzung übersetz "
        "traduis traduisez traduire traduction "
        "traduce traduzca traducir traducción traduzco "
        "traduci traduca tradurre traduzione "
        "traduza traduzir tradução "
        "переведи переведите перевести перевод",
    ),
    "summarising": (
        3.0,
        "zusammenfassung zusammenfassen fasse "
        "résume résumé résumez résumer synthèse "
        "resumir resumen resúmeme "
        "riassumi riassumere riassunto "
        "resumo resuma "
        "резюмируй суммируй кратко перескажи подытожь резюме",
    ),
    "writing": (
        0.75,
        "schreibe schreib verfasse formuliere "
        "écris écrivez rédige rédigez écrire "
        "escribe escriba escríbeme redacta "
        "scrivi scriva scrivimi redigi "
        "escreva escreve redija "
        "напиши напишите сочини составь",
    ),
    "code": (
        1.5,
        "funktion programm programmiere skript quellcode datenbankabfrage "
        "fonction algorithme "
        "función programa algoritmo "
        "funzione programma "
        "função "
        "функцию функция программу код алгоритм скрипт",
    ),
    "mathematics": (
        1.5,
        "berechne gleichung löse wieviel summe ableitung wahrscheinlichkeit bruch prozent "
        "calcule calculez résous résoudre combien équation dérivée probabilité "
        "calcula resuelve resolver cuánto cuántos cuántas ecuación derivada probabilidad "
        "calcola risolvi quanto quanti quante equazione "
        "resolva quantos quantas equação "
        "реши решите вычисли вычислите сколько уравнение интеграл вероятность",
    ),
    "reasoning": (
        1.0,
        "warum weshalb erkläre begründe vergleiche "
        "pourquoi explique expliquez comparez "
        "explica explique compara "
        "perché spiega confronta "
        "porquê compare "
        "почему объясни объясните сравни",
    ),
    "extraction": (
        1.5,
        "extrahiere extrahieren klassifiziere "
        "extrais extraire classifie "
        "extrae extraer clasifica "
        "estrai estrarre classifica "
        "extraia extrair classifique "
        "извлеки извлеките выдели классифицируй",
    ),
}

UNSPACED: Mapping[str, tuple[float, str]] = {
    "translation": (3.0, "翻译 翻譯 译成 譯成 訳して 翻訳 英訳 和訳"),
    "summarising": (3.0, "总结 總結 概括 摘要 归纳 要約 まとめて"),
    "writing": (1.0, "写一 寫一 作文 诗 詩 写信 書いて 手紙 小説 小说"),
    "code": (1.5, "函数 函數 代码 程式 编程 算法 関数 コード プログラム スクリプト"),
    "mathematics": (1.5, "计算 計算 方程 多少 几个 解方 積分 积分 概率 確率 いくつ いくら 何個"),
    "reasoning": (1.0, "为什么 為什麼 解释 解釋 比较 なぜ 説明して 比較"),
    "extraction": (1.5, "提取 抽取 抽出 分类 分類"),
}
