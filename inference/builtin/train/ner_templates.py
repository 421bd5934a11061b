"""Sentences of our own with slots, for what the gold data has hardly any of.

UNER marks "place + building" as one place and has a place directly before an
organisation only as part of the organisation's name. In news the two often
stand side by side and are two entities. The sentences that the models are
judged by, and their names, are kept out.
"""

import re

KEPT_OUT = ("马云", "阿里巴巴", "清华", "中科院", "特朗普", "华盛顿特区", "白宫")

SIGHTS = (
    "故宫 天坛 颐和园 圆明园 天安门 鸟巢 外滩 东方明珠 西湖 灵隐寺 雷峰塔 中山陵 夫子庙 玄武湖 黄鹤楼 岳阳楼 滕王阁 "
    "大雁塔 兵马俑 钟楼 武侯祠 宽窄巷子 布达拉宫 大昭寺 鼓浪屿 少林寺 龙门石窟 莫高窟 趵突泉 大明湖 崂山 维多利亚港 "
    "太平山 大三巴 国家体育场 人民大会堂 奥林匹克公园 埃菲尔铁塔 卢浮宫 凯旋门 巴黎圣母院 大英博物馆 白金汉宫 唐宁街 "
    "伦敦塔 大本钟 克里姆林宫 红场 勃兰登堡门 国会大厦 五角大楼 时代广场 中央公园 华尔街 自由女神像 金门大桥 "
    "好莱坞 青瓦台 景福宫 浅草寺 皇居 银座 歌剧院 斗兽场 罗马广场 圣家堂 爱丽舍宫 联合国广场 樟宜机场 蓝色清真寺"
).split()

COMPANIES = (
    "腾讯 百度 京东 华为 小米 联想 字节跳动 美团 滴滴出行 拼多多 网易 新浪 搜狐 携程 格力 海尔 海信 长虹 比亚迪 吉利 奇瑞 长安汽车 "
    "蔚来 万科 碧桂园 中兴 大疆 科大讯飞 宁德时代 茅台 五粮液 伊利 蒙牛 娃哈哈 农夫山泉 李宁 安踏 顺丰 中通 国美 苏宁 台积电 富士康 鸿海 "
    "宏碁 华硕 联发科 长荣 谷歌 微软 苹果 亚马逊 脸书 推特 特斯拉 英特尔 英伟达 高通 思科 甲骨文 奈飞 优步 爱彼迎 三星 乐金 现代汽车 起亚 "
    "索尼 任天堂 丰田 本田 日产 马自达 松下 东芝 日立 佳能 尼康 优衣库 西门子 博世 大众汽车 宝马 奔驰 奥迪 保时捷 法拉利 兰博基尼 标致 雷诺 "
    "空中客车 波音 洛克希德马丁 通用汽车 通用电气 福特 克莱斯勒 可口可乐 百事可乐 麦当劳 肯德基 必胜客 星巴克 沃尔玛 家乐福 麦德龙 宜家 "
    "耐克 阿迪达斯 彪马 欧莱雅 雀巢 达能 联合利华 宝洁 强生 拜耳 巴斯夫 辉瑞 诺华 罗氏 默沙东 阿斯利康 葛兰素史克 摩根大通 摩根士丹利 高盛 "
    "花旗银行 汇丰 渣打 瑞银 德意志银行 安联 诺基亚 爱立信 摩托罗拉 飞利浦 壳牌 埃克森美孚 道达尔 力拓 必和必拓 嘉吉 塔塔 沃达丰 迪士尼 "
    "华纳兄弟 派拉蒙 环球影业 路透社 彭博社 贝塔斯曼 阿卡迪亚 马士基 达美航空 汉莎航空 国泰航空 维珍航空 爱马仕 古驰 普拉达 卡西欧 雅马哈"
).split()

BODIES = (
    "社科院 工程院 农科院 北大 复旦 浙大 南大 人大 央视 新华社 人民日报 外交部 商务部 财政部 教育部 国防部 发改委 央行 证监会 银保监会 "
    "最高法院 最高检 国务院 中宣部 卫健委 国安局 海关总署 税务总局 气象局 地震局 航天局 国家文物局 体育总局 中国足协 国际足联 亚足联 欧足联 "
    "国际奥委会 联合国 世卫组织 世贸组织 世界银行 国际货币基金组织 欧盟 北约 东盟 非盟 石油输出国组织 美联储 五角大楼 中情局 联邦调查局 国会 "
    "众议院 参议院 民主党 共和党 工党 保守党 国民党 民进党 自民党 台大 港大 中文大学 哈佛大学 斯坦福大学 牛津大学 剑桥大学 麻省理工学院 东京大学"
).split()

FACILITIES = "办公楼 大楼 园区 工厂 仓库 食堂 门店 分公司 实验室 停车场 研发中心 展厅 旗舰店 车间 宿舍 会议室".split()

TEMPLATES = (
    "{PER}昨天下午抵达{CITY}{SIGHT}参观。",
    "游客在{CITY}{SIGHT}前合影留念。",
    "{CITY}{SIGHT}今日起恢复对公众开放。",
    "{PER}与{PER}在{CITY}{SIGHT}共进晚餐。",
    "{PER}结束了对{CITY}的旅行，随后前往{CITY}{SIGHT}。",
    "{LOC}总统{PER}将于下周到{CITY}{SIGHT}会见记者。",
    "一场大雨之后，{CITY}{SIGHT}积水严重。",
    "{PER}曾在{CITY}{BRAND}工作多年。",
    "{CITY}{BRAND}工厂宣布招聘两百名工人。",
    "警方昨晚搜查了{CITY}{BRAND}办公室。",
    "{PER}加入{BRAND}，担任{CITY}{BRAND}分公司经理。",
    "记者在{CITY}{BRAND}园区见到了{PER}。",
    "{PER}在{CITY}{BRAND}门店排队买手机。",
    "{BRAND}与{BRAND}今天在{CITY}签署合作协议。",
    "{BRAND}创始人{PER}表示，公司不会离开{LOC}。",
    "{BRAND}发布第三季度财报，股价大涨。",
    "{PER}在{CITY}{BRAND}上班，每天坐地铁。",
    "{PER}在{CITY}{BRAND}大厅里等了两个小时。",
    "{PER}在{CITY}开会。",
    "{PER}在{CITY}吃饭时遇到了{PER}。",
    "{PER}从{LOC}回来了。",
    "{PER}为什么要离开{BRAND}？",
    "{PER}买下了{CITY}的一座旧楼。",
    "{PER}称赞{PER}是一位好老师。",
    "{PER}在{CITY}{BRAND}{FACILITY}门口接受采访。",
    "{CITY}{BRAND}{FACILITY}昨夜停电。",
    "{PER}带记者参观了{CITY}{BRAND}{FACILITY}。",
    "孩子们在{LOC}{BRAND}{FACILITY}里画画。",
    "{PER}去过{BRAND}总部。",
    "工人在{BRAND}总部门前集会。",
    "{BRAND}总部的灯还亮着。",
    "{PER}的车停在{BRAND}总部楼下。",
    "{BRAND}总部位于{CITY}。",
    "{BRAND}将把总部迁往{LOC}。",
    "{PER}昨晚离开{BRAND}总部回家。",
    "{ORG}总部和{BRAND}总部只隔一条街。",
    "{BRAND}总部发生火灾，无人受伤。",
    "{BODY}总部设在{CITY}。",
    "{BODY}联合{BODY}推出新课程。",
    "{BODY}和{ORG}联合举行演习。",
    "{BODY}、{BODY}联合下发通知。",
    "{ORG}联合{BRAND}开发新药。",
    "{BODY}新任主席{PER}抵达{LOC}。",
    "{BODY}公布最新调查结果。",
    "{BODY}发言人{PER}拒绝回答。",
    "{PER}拜访{BODY}。",
    "{PER}参观{LOC}{SIGHT}。",
    "{PER}路过{LOC}{SIGHT}。",
    "{LOC}{SIGHT}下雪了。",
    "{PER}出任{ORG}校长。",
    "{ORG}和{ORG}共同举办了这次会议。",
    "{ORG}、{ORG}等单位参加了比赛。",
    "{ORG}教授{PER}认为，这项技术还不成熟。",
    "来自{ORG}的{PER}获得第一名。",
    "{PER}毕业于{ORG}，现居{LOC}。",
    "{PER}在{LOC}出生，在{LOC}长大。",
    "{PER}会见了来访的{LOC}外长{PER}。",
    "{PER}将于明年访问{LOC}、{LOC}和{LOC}。",
    "{PER}飞往{CITY}，出席{ORG}的年会。",
    "{PER}：我从来没有去过{LOC}。",
    "{LOC}队以二比一击败{LOC}队。",
    "从{CITY}到{CITY}的高铁只要三个小时。",
    "{PER}说，{PER}昨天已经离开{CITY}。",
    "我叫{PER}，来自{LOC}{LOC}。",
    "据{ORG}报道，{LOC}发生地震。",
    "{PER}在{CITY}街头演唱新歌。",
    "{PER}今年在{CITY}举行婚礼，{PER}到场祝贺。",
    "欢迎来到{CITY}！",
    "他把车停在路边，给家里打了一个电话。",
    "这家店的服务很好，下次还会再来。",
    "总部、分公司和工厂都已经停工。",
)

OWN = {"SIGHT": SIGHTS, "BRAND": COMPANIES, "BODY": BODIES}
SLOT = re.compile(r"\{(\w+)\}")


def fill(template, names, rng):
    """(text, spans) of a template; CITY and SIGHT are LOC, BRAND and BODY ORG."""
    text, spans, at = "", [], 0
    for m in SLOT.finditer(template):
        text += template[at : m.start()]
        slot = m.group(1)
        if slot == "CITY":
            name = next(n for n in iter(lambda: rng.choice(names["LOC"]), None) if len(n) <= 4)
        elif slot == "FACILITY":
            text += rng.choice(FACILITIES)
            at = m.end()
            continue
        elif slot in OWN and (slot != "BRAND" or rng.random() < 0.7):
            name = rng.choice(OWN[slot])
        else:
            name = rng.choice(names[slot])
        kind = {"CITY": "LOC", "SIGHT": "LOC", "BRAND": "ORG", "BODY": "ORG"}.get(slot, slot)
        spans.append((len(text), len(text) + len(name), kind))
        text += name
        at = m.end()
    return text + template[at:], spans


def kept_out(name):
    return any(k in name for k in KEPT_OUT)
